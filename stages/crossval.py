"""Cross-validation: train the final configuration on one fold and score it on the fold's test and valid images."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.train.fold_stage import train_fold

if __name__ == "__main__":
    command(train_fold, __doc__, fold={"type": int, "required": True, "help": "number of the fold, e.g. 3"})
