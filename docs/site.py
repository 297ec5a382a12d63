"""How `mkdocs build` makes the site from the files as they are: a hook of mkdocs, named in mkdocs.yml.

The site has the folders of the repository, with README.md as its home, so that a link leads where it leads there. The
pages of `API` are made from docstrings, and formulas become MathML, which browsers draw by themselves.
"""

import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    *("README.md", "GLOSSARY.md", "CHANGELOG.md", "benchmarks/README.md", "export/README.md", "export/serving/*"),
    *("docs/*.md", "docs/**/gradient_quality.md", "docs/**/*.png", "docs/site.css"),
)

# Title of a page -> where its names are defined, below `iwae_tf`; of a module all that is public.
API = {
    "Model": [
        "models.iwae.IWAE",
        "models.importance_weights.ImportanceWeights",
        "models.bound_trainer.BoundTrainer",
        "adam.Adam",
        "errors.InputError",
    ],
    "Objectives": [
        "objectives.objective.Objective",
        "objectives.objective.GradientWeights",
        "objectives.elbo.ELBO",
        "objectives.elbo_kl.AnalyticKLELBO",
        "objectives.iwae.IWAEBound",
        "objectives.dreg.DReG",
        "objectives.stl.STL",
        "objectives.miwae.MIWAE",
        "objectives.piwae.PIWAE",
        "objectives.ciwae.CIWAE",
        "objectives.vr_iwae.VRIWAE",
        "objectives.vr_max.VRMax",
        "objectives.jvi.JVI",
        "objectives.dreg_alpha.DReGAlpha",
        "objectives.rws.RWS",
        "objectives.rws_sleep.RWSSleep",
        "objectives.rws_dreg.RWSDReG",
        "objectives.vimco.VIMCO",
        "objectives.tvo.TVO",
        "objectives.kl_annealing.KLAnnealing",
        "objectives.registry.objective_class",
    ],
    "Evaluation": [
        "evaluation.log_likelihood.estimate_log_likelihood",
        "evaluation.log_likelihood.LikelihoodEstimate",
        "evaluation.annealing.annealed_log_likelihood",
        "evaluation.annealing.AnnealedEstimate",
        "evaluation.annealing.bidirectional_bounds",
        "evaluation.annealing.BidirectionalBounds",
        "evaluation.bias.jackknife",
        "evaluation.bias.jackknife_log_likelihood",
        "evaluation.bias.JackknifeEstimate",
        "evaluation.bias.deviation",
        "evaluation.bias.Deviation",
        "evaluation.units.unit_activities",
        "evaluation.units.active_units",
        "evaluation.units.pruned",
        "evaluation.posterior.posterior_expectation",
        "evaluation.posterior.posterior_samples",
        "evaluation.compare.compare_scores",
        "evaluation.compare.compare_with_first",
        "evaluation.compare.Comparison",
    ],
    "Data": ["data.loading.load", "data.dataset.Dataset", "data.pipeline.training_batches"],
    "Layers": ["layers.likelihood.Likelihood", "layers.conv.ConvEncoder", "layers.conv.ConvDecoder"],
    "Serving": ["serving.saved_model.export_saved_model", "serving.client.ScoringClient"],
    "Callbacks": ["training.callbacks"],
}


def on_files(files: Files, config) -> Files:
    """The files above in the place of those that mkdocs found in docs/, and those of the theme."""
    found = [path for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    made = [File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in found]
    for title, names in API.items():
        content = "\n\n".join([f"# {title} API", *map(_described, names)])
        made.append(File.generated(config, f"api/{title.lower()}.md", content=content))
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *made])


def _described(name: str) -> str:
    """What mkdocstrings makes the docstrings of a name from; a module goes without a heading of its own."""
    is_module = any(ROOT.glob(f"iwae_tf/{name.replace('.', '/')}*"))
    return f"::: iwae_tf.{name}" + ("\n    options: {show_root_heading: false}" if is_module else "")


def on_page_content(content: str, **kwargs) -> str:
    """Formulas, which arithmatex has put in brackets, as MathML."""
    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda found: _mathml(found, "inline"), content)
    return re.sub(
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', lambda found: _mathml(found, "block"), content, flags=re.S
    )


def _mathml(found: re.Match, display: str) -> str:
    tex = html.unescape(found[1]).replace("{aligned}", "{align*}")  # the name that the converter knows
    mathml = convert(tex, display=display)
    return re.sub(r"<mi>(log|max|min)</mi>", r'\g<0><mspace width="0.17em"/>', mathml)  # or "log p" is drawn as "logp"
