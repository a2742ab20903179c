# Two images:
#   docker build --target repro --tag glaucoma-repro .    the pipeline, for a clone that is mounted at /study
#   docker build --target serve --tag glaucoma-serve .    the page and the API for ONNX models, without TensorFlow
# docs/serve.md says how they are run. Neither holds photographs, models or Git history: .dockerignore keeps them out.

FROM python:3.12-slim-bookworm AS repro
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/glaucoma
COPY requirements.lock ./
RUN python -m pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip install --no-deps --no-build-isolation .
# The clone's code, not the image's; and nothing is written but below /study and /tmp
ENV PYTHONPATH=/study/src HOME=/tmp DVC_SITE_CACHE_DIR=/tmp/dvc
WORKDIR /study
USER 10001:10001
CMD ["sh", "-c", "glaucoma check && dvc repro && glaucoma results"]

FROM python:3.12-slim-bookworm AS serve
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/glaucoma
COPY requirements-serve.lock ./
RUN python -m pip install --require-hashes --requirement requirements-serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip install --no-deps --no-build-isolation .
ENV PYTHONUNBUFFERED=1
WORKDIR /study
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["glaucoma", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/model"]
