"""The model card that a saved model carries as README.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from echofm.hub import ModelConfig

_TEXT = """---
library_name: echofm
license: apache-2.0
tags:
- echocardiography
- masked-autoencoder
- video
---

# An EchoFM encoder

Turns echocardiography clips into one vector per tubelet, per moment and per clip.

```python
import echofm

encoder = echofm.load_encoder("THIS FOLDER OR HUB ID")
encoding = encoder.encode(video_BCTHW)  # tokens_BND, phase_BTD, video_BD
```

Not a medical device; for research only. Written by an independent implementation of arXiv 2410.23413, which is not
affiliated with the paper's authors.

## Input

Clips (B, {channels}, {frames}, {size}, {size}), floats from {low:g} to {high:g}, colour rule `{colour}`, {rate}.
Every call checks this.

## Model

Vision transformer, width {width}, {depth} blocks, {heads} heads, tubelets of {tubelet} frames and {patch}x{patch}
pixels. Pretrained with the mask "{mask}" over {mask_ratio:.0%} of the tokens and the prior "{prior}".

## Training and results

{facts}
"""


def card_text(config: ModelConfig) -> str:
    """The card: what goes in, what the model is, and the facts given when it was saved."""
    contract = config.contract
    low, high = contract.value_range
    rate = "consecutive frames" if contract.frame_rate_hz is None else f"{contract.frame_rate_hz:g} frames per second"
    facts = [f"- {name}: {_shown(value)}" for name, value in config.card.items()]
    return _TEXT.format(
        **config.architecture.model_dump(),
        mask=config.masking.kind,
        mask_ratio=config.masking.ratio,
        prior=config.objective.prior.kind,
        low=low,
        high=high,
        colour=contract.colour,
        rate=rate,
        facts="\n".join(facts) or "Nothing was recorded.",
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
