"""The models that look for a shortcut, in the audit's cross-validation and as a control on the folds' own splits."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

__all__ = ["LEAF", "MODELS"]

DEPTH, LEAF = 3, 3  # of the tree: levels, enough for a range and a step; and the fewest images in a leaf
# A slope, and steps and ranges: whatever shape a leak has, one of them can follow it. To be cloned before a fit
MODELS = {
    "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "tree": DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=LEAF, random_state=0),
}
