"""A codec's latents of every clip, as shards."""

from __future__ import annotations

import functools
from pathlib import Path

from echofm.errors import EchofmError
from echofm.shards.latents import write_latents
from echofm.shards.manifest import Latents, Manifest
from echofm.shards.read import ShardSet
from synth.latent.codec import Codec, LatentCodec
from synth.latent.standardise import latents_of


def write_latents_of(codec: Codec, shards: ShardSet, out: Path, *, show_progress: bool = True) -> Manifest:
    """Write the codec's latents of whole shards into a new folder (`echofm.shards.latents.write_latents`).

    Raises EchofmError, before any work, where the shards do not fit the codec's contract.
    """
    if not isinstance(codec, LatentCodec):
        raise EchofmError("pixels are their own latents: train the generator on the shards as they are")
    settings, contract = shards.manifest.settings, codec.contract
    if settings.size != contract.size or settings.channels != contract.channels:
        raise EchofmError(
            f"the shards are {settings.size} pixels a side with {settings.channels} channel(s), the codec takes "
            f"{contract.size} with {contract.channels}; write shards anew with --size {contract.size} "
            f"--channels {contract.channels}"
        )
    net = codec.net
    latents = Latents(
        codec_digest=codec.digest,
        scale=codec.scale,
        mean_C=tuple(net.mean_C.tolist()),
        std_C=tuple(net.std_C.tolist()),
    )
    encode = functools.partial(latents_of, net)
    return write_latents(shards, out, encode=encode, latents=latents, show_progress=show_progress)
