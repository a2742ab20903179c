"""Wrong labels stand at the top of the list, on real measurements; and neighbours are others."""

import numpy as np
import pandas as pd
import pytest
from conftest import Project, run_stage
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glaucoma.evaluate.label_errors import label_issues, neighbours

MEASURED = load_breast_cancer()  # comes with scikit-learn: 569 tumours, 30 features each
NAMES = np.array([f"tumour{i}" for i in range(len(MEASURED.target))])


def predicted(abnormal: np.ndarray) -> pd.DataFrame:
    """Out-of-fold log-odds of a regression that has these labels."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=2000))
    log_odds = cross_val_predict(model, MEASURED.data, abnormal, cv=10, method="decision_function")
    labels = np.where(abnormal, "abnormal", "normal")
    return pd.DataFrame({"image": NAMES, "label": labels, "log_odds": log_odds})


def test_of_flipped_labels_most_stand_among_the_first_tenth_and_are_named():
    random = np.random.default_rng(0)
    flipped = random.choice(len(NAMES), len(NAMES) // 20, replace=False)
    abnormal = MEASURED.target == 0
    abnormal[flipped] = ~abnormal[flipped]
    table = label_issues({"regression": predicted(abnormal)})
    first = set(table["image"].head(len(NAMES) // 10))
    assert np.mean([name in first for name in NAMES[flipped]]) > 0.9
    suggested = table.set_index("image").loc[NAMES[flipped], "suggested"]
    assert (suggested != "").mean() > 0.6
    assert table["probability"].is_monotonic_increasing
    assert (table["suggested"] != table["label"]).all()


def test_the_better_model_decides_and_an_images_predictions_are_averaged():
    good = pd.DataFrame({"image": list("aabbcc"), "label": ["normal"] * 2 + ["abnormal"] * 4})
    good["log_odds"] = [-2.0, -1.0, 2.0, 1.0, -3.0, 2.0]
    poor = good.assign(log_odds=0.0)
    table = label_issues({"poor": poor, "good": good, "none": good.head(0)}).set_index("image")
    assert set(table["source"]) == {"good"}
    assert table.index[0] == "c"
    assert table.loc["c", "predictions"] == 2
    assert 0.4 < table.loc["c", "probability"] < 0.5  # the mean of 0.05 and 0.88
    assert label_issues({"none": good.head(0)}).empty


def test_neighbours_are_the_nearest_of_other_patients():
    random = np.random.default_rng(1)
    features = np.repeat(random.normal(0, 1, (30, 8)), 2, axis=0) + random.normal(0, 0.05, (60, 8))
    images = pd.DataFrame({"image": [f"i{i}" for i in range(60)], "patient": ""})
    table = neighbours(features, images)
    nearest = table[table["nth"] == 1].set_index("image")["neighbour"]
    assert all(nearest[f"i{i}"] == f"i{i ^ 1}" for i in range(60))
    images["patient"] = [f"p{i // 2}" for i in range(60)]
    other = neighbours(features, images)
    assert not (other["image"].str[1:].astype(int) // 2 == other["neighbour"].str[1:].astype(int) // 2).any()
    labels = pd.DataFrame({"image": images["image"], "label": ["normal"] * 30 + ["abnormal"] * 30, "log_odds": 0.1})
    beside = label_issues({"one": labels}, other)
    assert beside["neighbours_agree"].between(0, 1).all()
    assert beside["nearest"].str.split().str.len().eq(2).all()


@pytest.mark.slow
def test_of_the_samples_flipped_labels_three_in_five_stand_among_the_first_tenth(bare: Project, monkeypatch):
    from glaucoma.model.artifacts import load_model
    from glaucoma.train.control_stage import REGRESSION, STRENGTH, pooled_features
    from glaucoma.train.search_stage import dataset

    bare.set({"data.image_size": 160, "sample.images": 155, "sample.size": 448})
    for stage in ("sample", "index", "audit", "pixels", "backbone"):
        run_stage(stage, bare.root)
    monkeypatch.chdir(bare.root)
    data = dataset()
    features = pooled_features(load_model("models/backbone/backbone.keras"), data)[REGRESSION].astype(float)
    images = data.table.drop_duplicates("row").set_index("row").sort_index()
    found = []
    for seed in range(5):
        flipped = np.random.default_rng(seed).choice(len(images), round(0.05 * len(images)), replace=False)
        abnormal = images["abnormal"].to_numpy(bool).copy()
        abnormal[flipped] = ~abnormal[flipped]
        parts = []
        for _, table in data.table.groupby("fold"):
            train, rest = (table["row"][(table["split"] == "train") == of].to_numpy() for of in (True, False))
            model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH[REGRESSION], max_iter=2000))
            model.fit(features[train], abnormal[train])
            told = {"image": rest, "label": np.where(abnormal[rest], "abnormal", "normal")}
            parts.append(pd.DataFrame({**told, "log_odds": model.decision_function(features[rest])}))
        table = label_issues({REGRESSION: pd.concat(parts, ignore_index=True)})
        found.append(np.isin(flipped, table["image"].head(-(-len(images) // 10))).mean())
    assert np.mean(found) >= 0.6
