"""Common spellings of classes, columns, splits and eyes: tables of names without case, accents and separators."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from glaucoma.base.index import ABNORMAL, NORMAL

__all__ = ["ANSWERS", "COLUMNS", "IGNORE", "LETTERS", "PART", "condition_of", "eye_of", "plain", "words"]

IGNORE = "ignore"  # in data.classes: left out and counted


def _each(names: str, meaning: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), meaning)


SPELLINGS = {  # known without data.classes; plurals and the words of FILLER may be added
    **_each("normal healthy healthycontrol control negative nrg sano sana negativo", NORMAL),
    **_each("nonglaucoma noglaucoma notglaucoma nonglaucomatous noglaucomatous notglaucomatous singlaucoma", NORMAL),
    **_each("noglaucomatoso glaucomanegative negativeglaucoma glaucomanegativo", NORMAL),
    **_each("abnormal glaucoma glaucomatous positive rg glaucomatoso positivo conglaucoma", ABNORMAL),
    **_each("glaucomapositive positiveglaucoma glaucomapositivo", ABNORMAL),
}
FILLER = _each("image images img imgs photo photos fundus eye eyes class case cases imagen imagenes ojo ojos", "")
LETTERS = {"n": NORMAL, "g": ABNORMAL}  # one-hot columns and labels, as in ODIR
ANSWERS = {  # in a column called glaucoma
    **_each("1 yes y true si s x positive positivo", ABNORMAL),
    **_each("0 no n false negative negativo", NORMAL),
}

COLUMNS = {  # of label tables: our name, then other spellings, the likeliest first
    "image": "image filename file imagename imagefile imagepath filepath path imageid img imgname imgpath photo "
    "photograph fundus name names idcode imagen archivo fichero id",
    "label": "label labels class classes diagnosis condition target category types type binarylabel binarylabels "
    "majoritydecision clase etiqueta diagnostico",
    "yes": "glaucoma isglaucoma hasglaucoma glaucomalabel labelglaucoma labelglaucoma1 glaucomatous rg referable",
    "patient": "patient patientid idpatient patientno patientnr patientnumber patientcode patientkey pid subject "
    "subjectid idsubject subjectno subjectnumber subjectcode person personid participant participantid mrn paciente "
    "idpaciente pacienteid",
    "eye": "eye laterality side odos eyeside imagelaterality ojo lateralidad lado",
    "source": "source dataset centre center site hospital clinic fuente centro",
    "age": "age ageyears patientage ageatexam edad",
    "sex": "sex gender patientsex patientgender sexo genero",
    "camera": "camera cameramodel device devicemodel scanner camara equipo",
}

# Folder names of predefined splits
PART = re.compile(
    r"(train(ing)?|test(ing)?|valid(ation)?|val|dev|entrenamiento|prueba|validacion)"
    r"([_\- ]?(set|data|images|split|\d+))*",
    re.I,
)

EYES = {
    **_each("os l le left lefteye oi izq izquierdo izquierda", "OS"),
    **_each("od r re right righteye der derecho derecha", "OD"),
}


def words(name: str) -> list[str]:
    """The words of a name, without case and accents: `No-Glaucoma` → no, glaucoma."""
    text = unicodedata.normalize("NFKD", name).casefold()
    return re.findall(r"[^\W_]+", "".join(c for c in text if not unicodedata.combining(c)))


def plain(name: str) -> str:
    """A name's words as one: `Patient ID` → patientid."""
    return "".join(words(name))


def condition_of(name: str, classes: Mapping[str, str]) -> str | None:
    """The class of a folder or label name, `ignore`, or None if it is unknown or ambiguous.

    `classes` comes first, matched exactly or else in any case; then common spellings (`1_normal`, `Non Glaucoma`).
    """
    if name in classes:
        return classes[name]
    matches = {condition for known, condition in classes.items() if known.casefold() == name.casefold()}
    if matches:
        return matches.pop() if len(matches) == 1 else None
    said = [word for word in words(name) if word not in FILLER]
    if len(said) > 1 and said[0].isdigit():  # 1_normal
        said = said[1:]
    known = SPELLINGS | {plain(key): condition for key, condition in classes.items()}
    key = "".join(said)
    return known.get(key, known.get(key.removesuffix("s")))


def eye_of(name: str) -> str | None:
    """OD (right) or OS (left) for a word that names an eye, else None."""
    return EYES.get(plain(name))
