# Packages are pinned by hash, in the locks; the bases by tag only, which moves with their fixes. No
# digest stands here because none could be looked up where this was written. Pin one, or choose
# another base, with --build-arg BASE=python:3.11-slim-bookworm@sha256:… and NODE=…
ARG BASE=python:3.11-slim-bookworm
ARG NODE=node:22-bookworm-slim

FROM ${NODE} AS ui
# --build-arg UI=none leaves the web UI out; no Node.js is called then.
ARG UI=built
WORKDIR /source/ui
COPY ui/package.json ui/package-lock.json ui/.npmrc ./
RUN [ "$UI" = none ] || npm ci --ignore-scripts --no-audit --no-fund
COPY ui ./
RUN if [ "$UI" = none ]; then mkdir -p ../routers/ui_dist; else npm run build; fi

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
# The locked packages first: they change less often than the source.
COPY requirements.lock requirements-build.lock ./
# A third of what they take is debugging symbols of compiled modules.
RUN python3 -m venv /builder \
    && /builder/bin/pip install --require-hashes -r requirements-build.lock \
    && python3 -m venv /venv \
    && /venv/bin/pip install --require-hashes -r requirements.lock \
    && /venv/bin/pip uninstall --yes setuptools \
    && find /venv -name '*.so' -exec strip --strip-unneeded {} + \
    && find /venv/lib/python3*/site-packages/pip -name '*.pyc' -delete
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY routers routers
COPY --from=ui /source/routers/ui_dist routers/ui_dist
COPY schemas schemas
COPY stores stores
RUN /builder/bin/python -m build --wheel --no-isolation --outdir /dist \
    && /venv/bin/pip install --no-deps /dist/*.whl \
    && /venv/bin/pip check

FROM ${BASE}
# A library that keeps something in its home finds room there, also below a read-only root.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin server \
    && mkdir /data && chown server:server /data
# Its pip stays, and may write here, for images that are built FROM this one to add packages.
COPY --from=build --chown=10001:10001 /venv /venv
# A folder that is mounted at /workflows takes the place of the examples.
COPY examples /workflows
# Two seconds less than what `docker stop` gives, so that the end is always a clean one.
ENV PATH=/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WORKFLOW_SERVER_HOST=0.0.0.0 \
    WORKFLOW_SERVER_PORT=8000 \
    WORKFLOW_SERVER_LOG_FORMAT=json \
    WORKFLOW_SERVER_SHUTDOWN_TIMEOUT=8 \
    WORKFLOW_SERVER_STORE=sqlite:////data/workflow-server.db
VOLUME /data
USER 10001
WORKDIR /workflows
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['WORKFLOW_SERVER_PORT'] + '/health', timeout=4)"]
# No shell in between: SIGTERM reaches the server.
ENTRYPOINT ["workflow-server"]
CMD ["serve", "/workflows"]
