"""README.md says what dvc.yaml and metrics/ say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_picture_and_the_scores_in_the_readme_are_those_of_the_pipeline_and_its_metrics():
    result = subprocess.run([sys.executable, "tools/readme.py"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_path_that_the_readme_names_is_made_by_the_pipeline_or_tracked():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in ("reports/summary/published.csv", "metrics/summary.json", "reports/audit/findings.csv", "params.yaml"):
        assert path in text
        folder = path.rpartition("/")[0]
        known = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
        assert (ROOT / path).exists() or path in known or folder in known, path
