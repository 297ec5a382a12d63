"""The same model in PyTorch as one writes it for speed: images encoded once, no objects, compiled."""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peer_torch import TiledTorch


class CompiledTorch(TiledTorch):
    """Loss and its backward pass under `torch.compile`, Adam as one fused operation; arguments as above."""

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        super().__init__(latent_units, hidden_units, x, k)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-4, fused=True)
        torch._dynamo.reset()  # a model of another size before would have it compiled for any size
        self.loss = torch.compile(super().loss, dynamic=False)

    def log_weights(self, x):
        """x [B, D] -> [k, B]; the constants of q and prior, which are the same, are left out of both.

        log q(h) = -|noise|^2 / 2 - sum log scale + const,  log N(h; loc, scale^2) as it stands.
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
        logits = self.generative[0](h[0])  # [k, B, D]
        x = x.expand_as(logits)
        return log_w - functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
