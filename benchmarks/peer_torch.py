"""The same model in PyTorch: the straightforward way, and as one writes it for speed."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal
from torch.nn import functional


class Conditional(nn.Module):
    """Values of dense heads on tanh layers, [..., widths[0]] -> `heads` times [..., widths[-1]]."""

    def __init__(self, *widths: int, heads: int):
        super().__init__()
        pairs = itertools.pairwise(widths[:-1])
        self.hidden = nn.Sequential(*(module for pair in pairs for module in (nn.Linear(*pair), nn.Tanh())))
        self.heads = nn.ModuleList(nn.Linear(*widths[-2:]) for _ in range(heads))

    def forward(self, condition):
        features = self.hidden(condition)
        return [head(features) for head in self.heads]


class TiledTorch(nn.Module):
    """Every image k times through both networks, distributions as objects, nothing compiled.

    Args:
        latent_units: of each stochastic layer, nearest x first.
        hidden_units: of the tanh layers below each.
        x: the images of a step, [B, D].
        k: importance samples.
    """

    fused = False  # Adam as one operation

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        super().__init__()
        torch.manual_seed(0)
        self.k, self.x = k, torch.from_numpy(x)
        below, self.inference, self.generative = x.shape[1], nn.ModuleList(), nn.ModuleList()
        for units, hidden in zip(latent_units, hidden_units, strict=True):
            self.inference.append(Conditional(below, *hidden, units, heads=2))
            heads = 2 if len(self.generative) else 1
            self.generative.append(Conditional(units, *reversed(hidden), below, heads=heads))
            below = units
        self.units = below
        for weights in self.parameters():
            nn.init.xavier_uniform_(weights) if weights.dim() > 1 else nn.init.zeros_(weights)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-4, fused=self.fused)

    def log_weights(self, x):
        """Returns log importance weights, [B, D] -> [k, B]."""

        def normal(layer, condition):
            loc, log_scale = layer(condition)
            return Independent(Normal(loc, log_scale.exp()), 1)

        x = x.expand(self.k, *x.shape)
        log_w, condition, h = 0.0, x, []
        for layer in self.inference:
            q = normal(layer, condition)
            condition = q.rsample()
            log_w = log_w - q.log_prob(condition)
            h.append(condition)
        prior = Independent(Normal(torch.zeros(self.units), torch.ones(self.units)), 1)
        log_w = log_w + prior.log_prob(h[-1])
        for layer, value, above in zip(self.generative[1:], h[:-1], h[1:], strict=True):
            log_w = log_w + normal(layer, above).log_prob(value)
        (logits,) = self.generative[0](h[0])
        return log_w + Independent(Bernoulli(logits=logits), 1).log_prob(x)

    def loss(self, x):
        """Returns minus the bound, mean over the images."""
        return float(np.log(self.k)) - torch.logsumexp(self.log_weights(x), dim=0).mean()

    def step(self) -> float:
        """Takes a training step; returns the bound before it, in nats."""
        self.optimizer.zero_grad()
        loss = self.loss(self.x)
        loss.backward()
        self.optimizer.step()
        return -loss.item()

    def arrays(self) -> list[np.ndarray]:
        """Returns all weights, kernels as [in, out]."""
        return [weights.detach().numpy().T for weights in self.parameters()]

    def zero(self) -> None:
        """Sets all weights to 0."""
        with torch.no_grad():
            for weights in self.parameters():
                weights.zero_()


class CompiledTorch(TiledTorch):
    """Images encoded once, loss and backward pass under `torch.compile`; arguments as above."""

    fused = True

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        super().__init__(latent_units, hidden_units, x, k)
        torch._dynamo.reset()  # after a model of another size it compiles for any size
        self.loss = torch.compile(super().loss, dynamic=False)

    def log_weights(self, x):
        """Returns log importance weights, [B, D] -> [k, B]; the constants of q and prior cancel.

        log q(h) = -|noise|^2 / 2 - sum log scale + const
        """
        log_w, condition, h = 0.0, x, []
        for layer in self.inference:
            loc, log_scale = layer(condition)  # [B, H_0], then [k, B, H_l]
            noise = torch.randn(self.k, *loc.shape[-2:])
            condition = loc + log_scale.exp() * noise  # [k, B, H_l]
            log_w = log_w + 0.5 * noise.square().sum(-1) + log_scale.sum(-1)
            h.append(condition)
        log_w = log_w - 0.5 * h[-1].square().sum(-1)
        for layer, value, above in zip(self.generative[1:], h[:-1], h[1:], strict=True):
            loc, log_scale = layer(above)
            standardized = (value - loc) * (-log_scale).exp()
            log_w = log_w - 0.5 * standardized.square().sum(-1) - log_scale.sum(-1)
        (logits,) = self.generative[0](h[0])  # [k, B, D]
        x = x.expand_as(logits)
        return log_w - functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
