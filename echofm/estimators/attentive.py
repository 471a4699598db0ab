"""Attentive probes as scikit-learn estimators: which of a clip's tokens tell, and what they say.

X is (N, T * D): the T tokens of a clip one after another, NaN for tokens that a clip does not have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier, is_regressor
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.nn import functional as F

from echofm.estimators.attention_pool import BATCH, LabelledRows, Schedule, fit_pool, pooled
from echofm.estimators.penalised import class_weights
from echofm.estimators.rows import Rows

_FLOATS: dict[str, Any] = {"dtype": (np.float32, np.float64), "ensure_all_finite": "allow-nan"}
LEARNING_RATES, WEIGHT_DECAYS = (1e-3, 4e-3), (0.01, 1.0)


class _Attentive(BaseEstimator, ABC):
    """tokens: how many tokens a row of X holds. lr, weight_decay: of AdamW. epochs: at most, but so many more where the
    training set is small that `min_steps` steps are taken. patience: epochs without a better validation loss before
    the end. random_state: of the first weights and the order of clips.
    """

    def __init__(
        self,
        tokens: int = 1,
        *,
        lr: float = 4e-3,
        weight_decay: float = 0.01,
        epochs: int = 40,
        min_steps: int = 300,
        patience: int = 10,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.tokens = tokens
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.min_steps = min_steps
        self.patience = patience
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, *, X_val: npt.ArrayLike | None = None, y_val: Any = None) -> Any:
        """Fit to (N, T * D) tokens and (N,) values or classes; with validation rows, of other patients, stops where
        they say."""
        features, values = self._checked(X, y, y_numeric=is_regressor(self))
        if is_classifier(self):
            check_classification_targets(values)
        validation = None if X_val is None else Rows(features_ND=self._checked(X_val, y_val, reset=False)[0])
        return self.fit_rows(Rows(features_ND=features), values, validation=validation, values_val=y_val)

    @abstractmethod
    def fit_rows(
        self, rows: Rows, values_M: npt.NDArray, *, validation: Rows | None = None, values_val: Any = None
    ) -> Any:
        """The same of rows that may be mapped from disk, read batch by batch."""

    def _checked(self, X: npt.ArrayLike, y: npt.ArrayLike, **checks: Any) -> tuple[npt.NDArray, npt.NDArray]:
        features_NF, y_N = validate_data(self, X, y, **_FLOATS, **checks)
        if self.tokens < 1 or features_NF.shape[1] % self.tokens:
            raise ValueError(f"{features_NF.shape[1]} features are no {self.tokens} tokens of equal width; set tokens")
        return features_NF, np.asarray(y_N)

    def _fit(self, rows: Rows, validation: Rows | None, targets: tuple, outputs: int, loss: Any) -> None:
        per_epoch = -(-len(rows) // BATCH)
        schedule = Schedule(
            lr=self.lr,
            weight_decay=self.weight_decay,
            epochs=max(self.epochs, -(-self.min_steps // per_epoch)),
            patience=max(self.patience, -(-self.min_steps // (4 * per_epoch))),
        )
        self._net, self.n_iter_ = fit_pool(
            LabelledRows(rows=rows, target=targets[0]),
            tokens=self.tokens,
            outputs=outputs,
            loss=loss,
            schedule=schedule,
            seed=int(check_random_state(self.random_state).randint(2**31)),
            validation=None if validation is None else LabelledRows(rows=validation, target=targets[1]),
        )
        self.n_features_in_ = rows.dim

    def _pooled(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        check_is_fitted(self)
        features_NF = validate_data(self, X, reset=False, **_FLOATS)
        return pooled(self._net, features_NF, tokens=self.tokens)


class AttentiveRegressor(RegressorMixin, _Attentive):
    """Attention pooling of a clip's tokens, then a linear read-out of a number; least squares."""

    def fit_rows(
        self, rows: Rows, values_M: npt.NDArray, *, validation: Rows | None = None, values_val: Any = None
    ) -> AttentiveRegressor:
        """See `_Attentive`."""
        self._mean, self._scale = float(np.mean(values_M)), float(np.std(values_M)) or 1.0

        def scaled(values: Any) -> torch.Tensor:
            return torch.from_numpy((np.asarray(values, np.float64) - self._mean) / self._scale).float()[:, None]

        targets = (scaled(values_M), None if validation is None else scaled(values_val))
        self._fit(rows, validation, targets, 1, F.mse_loss)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) predicted values."""
        predicted_N1 = self._pooled(X)
        return predicted_N1[:, 0] * self._scale + self._mean


class AttentiveClassifier(ClassifierMixin, _Attentive):
    """Attention pooling of a clip's tokens, then a softmax over classes, which count alike whatever their size."""

    def fit_rows(
        self, rows: Rows, values_M: npt.NDArray, *, validation: Rows | None = None, values_val: Any = None
    ) -> AttentiveClassifier:
        """See `_Attentive`; validation rows of classes not trained on are left out."""
        self.classes_, numbers = np.unique(values_M, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"AttentiveClassifier needs two classes; y holds 1 class, {self.classes_[0]!r}")
        weights = class_weights(numbers, len(self.classes_))
        weight_K = torch.from_numpy(weights[np.unique(numbers, return_index=True)[1]]).float()
        targets: tuple = (torch.from_numpy(numbers), None)
        if validation is not None:
            known = np.flatnonzero(np.isin(values_val, self.classes_))
            validation = validation.some(known) if len(known) else None
            targets = (targets[0], torch.from_numpy(np.searchsorted(self.classes_, np.asarray(values_val)[known])))

        def loss(scores_BK: torch.Tensor, numbers_B: torch.Tensor) -> torch.Tensor:
            # The mean of weighted losses, not over the batch's weights: small batches of one class stay small.
            return (F.cross_entropy(scores_BK, numbers_B, reduction="none") * weight_K[numbers_B]).mean()

        self._fit(rows, validation, targets, len(self.classes_), loss)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, K) probabilities."""
        scores_NK = self._pooled(X)
        return softmax(scores_NK, 1)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray:
        """(N,) classes."""
        probability_NK = self.predict_proba(X)
        return self.classes_[probability_NK.argmax(1)]
