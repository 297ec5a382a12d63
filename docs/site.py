"""Hook of mkdocs, named in mkdocs.yml: `mkdocs build` makes the site from the files in place.

The site has the folders of the repository, with README.md as its home, so that links work unchanged. The API pages are
made from docstrings, and formulas become MathML, which browsers draw without a script.
"""

import html
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from iwae_tf.declarations import declared  # noqa: E402, imports nothing but the standard library

FILES = (
    *(
        "README.md",
        "GLOSSARY.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "benchmarks/README.md",
        "export/README.md",
        "export/serving/*",
    ),
    *("docs/*.md", "docs/**/gradient_quality.md", "docs/**/*.png", "docs/images/*.svg", "docs/site.css"),
)

# title of a page -> public names on it; `_documented` finds their modules, tests/integration/test_site.py missing names
API = {
    "Model": "IWAE InputError",
    "Objectives": "Objective GradientWeights KLAnnealing objective_class build_objective",
    "Evaluation": "LikelihoodEstimate estimate_log_likelihood JackknifeEstimate jackknife jackknife_log_likelihood "
    "AnnealedEstimate annealed_log_likelihood BidirectionalBounds bidirectional_bounds InferenceGap inference_gap "
    "Deviation deviation Comparison compare_scores compare_with_first compare_refits mean_scores "
    "posterior_expectation posterior_samples impute impute_draws unit_activities active_units pruned",
    "Data": "load Dataset Column training_batches",
    "Layers": "Likelihood ColumnModel DistributionHead ConvEncoder ConvDecoder",
    "scikit-learn": "IWAEDensity",
    "Declarations": "declare declared find load_plugins Declaration Setting",
    "Serving": "export_saved_model ScoringClient",
    "Callbacks": "EventFiles",
}
API["Objectives"] += "".join(f" {objective.attribute}" for objective in declared("objective").values())
PLACES = ("declarations", "errors", "layers", "models", "objectives", "distributions", "evaluation", "data", "serving")
PLACES += ("training", "sklearn")


def on_files(files: Files, config) -> Files:
    """Replaces the files that mkdocs found in docs/ by the files above; those of the theme stay."""
    found = [path for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    made = [File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in found]
    for title, names in API.items():
        content = "\n\n".join([f"# {title} API", *map(_documented, names.split())])
        made.append(File.generated(config, f"api/{title.lower()}.md", content=content))
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *made])


def _documented(name: str) -> str:
    """Returns the line that mkdocstrings replaces by the docstrings of a class or function; empty if there is none."""
    for place in PLACES:
        path = ROOT / "iwae_tf" / place
        for module in sorted(path.glob("*.py")) or [path.with_suffix(".py")]:
            if re.search(rf"^(class|def) {name}\b", module.read_text(encoding="utf-8"), re.MULTILINE):
                parts = module.relative_to(ROOT).with_suffix("").parts
                return "::: " + ".".join(part for part in (*parts, name) if part != "__init__")
    return ""


def on_page_content(content: str, **kwargs) -> str:
    """Converts formulas, which arithmatex has put in brackets, to MathML."""
    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda found: _mathml(found, "inline"), content)
    return re.sub(
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', lambda found: _mathml(found, "block"), content, flags=re.S
    )


def _mathml(found: re.Match, display: str) -> str:
    tex = html.unescape(found[1]).replace("{aligned}", "{align*}")  # the name that the converter knows
    mathml = convert(tex, display=display)
    return re.sub(r"<mi>(log|max|min)</mi>", r'\g<0><mspace width="0.17em"/>', mathml)  # or "log p" is drawn as "logp"
