# The base's tag may be pinned, or another registry's image given, with --build-arg BASE=…
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# The locked packages first: they change less often than the source.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --require-hashes -r requirements.lock \
    && python -m venv /builder \
    && /builder/bin/pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md ./
COPY app app
COPY routers routers
COPY schemas schemas
COPY stores stores
RUN /builder/bin/python -m build --wheel --no-isolation --outdir /dist \
    && /venv/bin/pip install --no-deps /dist/*.whl \
    && /venv/bin/pip check

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin server
# Its pip stays, for images that are built FROM this one to add what their workflows import.
COPY --from=build /venv /venv
# A folder that is mounted at /workflows takes the place of the examples.
COPY examples /workflows
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WORKFLOW_SERVER_HOST=0.0.0.0 \
    WORKFLOW_SERVER_PORT=8000 \
    WORKFLOW_SERVER_STORE=sqlite:////data/workflow-server.db
RUN mkdir /data && chown server /data
VOLUME /data
USER 10001
WORKDIR /workflows
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['WORKFLOW_SERVER_PORT'] + '/health', timeout=4)"]
# No shell in between: SIGTERM reaches the server.
ENTRYPOINT ["workflow-server"]
CMD ["serve", "/workflows"]
