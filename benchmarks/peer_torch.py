"""The same model in PyTorch the straightforward way: distributions as objects, every image k times through it all."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal


class GaussianLayer(nn.Module):
    """A Gaussian with mean and log scale from tanh layers: [..., widths[0]] -> [..., widths[-1]]."""

    def __init__(self, *widths: int):
        super().__init__()
        self.hidden = tanh_layers(widths[:-1])
        self.loc, self.log_scale = (nn.Linear(*widths[-2:]) for _ in range(2))

    def forward(self, condition):
        features = self.hidden(condition)
        return self.loc(features), self.log_scale(features)


class BernoulliLayer(nn.Module):
    """Logits of pixels from tanh layers: [..., widths[0]] -> [..., widths[-1]]."""

    def __init__(self, *widths: int):
        super().__init__()
        self.hidden = tanh_layers(widths[:-1])
        self.logits = nn.Linear(*widths[-2:])

    def forward(self, condition):
        return self.logits(self.hidden(condition))


def tanh_layers(widths) -> nn.Sequential:
    """Dense tanh layers between so many widths."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(module for pair in pairs for module in (nn.Linear(*pair), nn.Tanh())))


class TiledTorch(nn.Module):
    """Every image k times through both networks, the gradient of log-mean-exp by autodiff, nothing compiled.

    Args:
        latent_units: of each stochastic layer, nearest x first.
        hidden_units: of the tanh layers below each.
        x: the images of a step, [B, D].
        k: importance samples.
    """

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        super().__init__()
        torch.manual_seed(0)
        self.k, self.x = k, torch.from_numpy(x)
        below, self.inference, self.generative = x.shape[1], nn.ModuleList(), nn.ModuleList()
        for units, hidden in zip(latent_units, hidden_units, strict=True):
            self.inference.append(GaussianLayer(below, *hidden, units))
            layer = GaussianLayer if len(self.generative) else BernoulliLayer
            self.generative.append(layer(units, *reversed(hidden), below))
            below = units
        self.units = below
        for weights in self.parameters():
            nn.init.xavier_uniform_(weights) if weights.dim() > 1 else nn.init.zeros_(weights)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-4)

    def log_weights(self, x):
        """x [B, D] -> [k, B]."""

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
        return log_w + Independent(Bernoulli(logits=self.generative[0](h[0])), 1).log_prob(x)

    def loss(self, x):
        """Minus the bound, mean over the images."""
        return float(np.log(self.k)) - torch.logsumexp(self.log_weights(x), dim=0).mean()

    def step(self) -> float:
        """A training step; returns the bound before it, in nats."""
        self.optimizer.zero_grad()
        loss = self.loss(self.x)
        loss.backward()
        self.optimizer.step()
        return -loss.item()

    def arrays(self) -> list[np.ndarray]:
        """All weights, kernels as [in, out]."""
        return [weights.detach().numpy().T for weights in self.parameters()]

    def zero(self) -> None:
        """Sets all weights to 0."""
        with torch.no_grad():
            for weights in self.parameters():
                weights.zero_()
