"""Windows of a map: padded evenly to whole windows, cut out, put back, and which positions may see one another.

B maps, H rows, W columns, C channels, N windows, L = window * window positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

# A large finite number, as published: a position that sees none but masked ones still gets a mean, not NaN.
_HIDDEN = -100.0


@dataclass(frozen=True)
class Windows:
    """A map of height x width in windows, rolled by `shift` rows and columns."""

    height: int
    width: int
    window: int
    shift: int

    @property
    def _padding(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        across, down = -self.width % self.window, -self.height % self.window
        return across // 2, across - across // 2, down // 2, down - down // 2

    def pad(self, map_BHWC: torch.Tensor) -> torch.Tensor:
        """Zeros around the map, half on each side."""
        return F.pad(map_BHWC, (0, 0, *self._padding))

    def cut(self, padded_BHWC: torch.Tensor) -> torch.Tensor:
        """(B * N, L, C): rolled, then window after window of each map."""
        side, channels = self.window, padded_BHWC.shape[-1]
        rolled = padded_BHWC.roll((-self.shift, -self.shift), (1, 2))
        split = rolled.unflatten(2, (-1, side)).unflatten(1, (-1, side))
        return split.transpose(2, 3).reshape(-1, side * side, channels)

    def join(self, windows_NLC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C): back in place, without what was padded."""
        left, right, top, bottom = self._padding
        rows, columns = self.height + top + bottom, self.width + left + right
        side = self.window
        split = windows_NLC.reshape(-1, rows // side, columns // side, side, side, windows_NLC.shape[-1])
        rolled = split.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        whole = rolled.roll((self.shift, self.shift), (1, 2))
        return whole[:, top : top + self.height, left : left + self.width]

    def mask(self, device: torch.device) -> torch.Tensor | None:
        """(N, L, L) added to the logits; None where all see all.

        Positions see those of their own region: the padding apart, and what the roll brought together apart. Published:
        the regions of the padding are not rolled with the map.
        """
        left, right, top, bottom = self._padding
        rows, columns = self.height + top + bottom, self.width + left + right
        hidden_NLL = None
        if rows > self.height or columns > self.width:
            hidden_NLL = self._apart((top, top + self.height), (left, left + self.width), rows, columns, device)
        if self.shift:
            # Made anew for every map: a cache by the number of positions would serve a map of another shape.
            of_rows, of_columns = ((size - self.window, size - self.shift) for size in (rows, columns))
            shifted_NLL = self._apart(of_rows, of_columns, rows, columns, device)
            hidden_NLL = shifted_NLL if hidden_NLL is None else hidden_NLL | shifted_NLL
        return None if hidden_NLL is None else hidden_NLL * _HIDDEN

    def _apart(
        self, cut_rows: tuple[int, int], cut_columns: tuple[int, int], rows: int, columns: int, device: torch.device
    ) -> torch.Tensor:
        """(N, L, L) whether two positions of a window lie in different ones of the nine regions."""
        of_row, of_column = (
            torch.bucketize(torch.arange(size, device=device), torch.tensor(cuts, device=device), right=True)
            for size, cuts in ((rows, cut_rows), (columns, cut_columns))
        )
        region_1HW1 = (3 * of_row[:, None] + of_column)[None, :, :, None]
        side = self.window
        region_NL = region_1HW1.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).reshape(-1, side**2)
        return region_NL[:, :, None] != region_NL[:, None, :]
