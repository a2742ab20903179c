"""A reproducible pipeline that trains and judges glaucoma classifiers on retinal photographs."""

__version__ = "0.1.0"
