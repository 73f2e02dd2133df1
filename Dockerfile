# The served app and nothing else: no TensorFlow, no training weights, no compiler.
#   docker build -t pneumo . && docker run --rm -p 5000:5000 --read-only pneumo
# With --build-arg REQUIREMENTS=requirements-node.txt it has what `pneumo node` needs, too; with requirements-archive.txt
# what `pneumo predict` needs for s3:// and Parquet.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ARG REQUIREMENTS=requirements-serve.txt
COPY ${REQUIREMENTS} /requirements.txt
# A venv without pip: the base's own pip fills it, and nothing that installs packages is carried along.
RUN python3 -m venv --without-pip /venv \
 && python3 -m pip --python /venv/bin/python --no-cache-dir --disable-pip-version-check \
    install --require-hashes -r /requirements.txt
# .dockerignore lets through only what is served. Root owns it and everybody may read it, whatever the checkout's modes.
COPY . /srv/pneumo
RUN chmod -R u=rwX,go=rX /srv/pneumo && rm /srv/pneumo/requirements-*.txt \
 && /venv/bin/python -m compileall -q /srv/pneumo

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pneumo" \
      org.opencontainers.image.description="Reads a frontal chest X-ray of a child for pneumonia: a page and a JSON endpoint" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /venv /venv
COPY --from=build /srv/pneumo /srv/pneumo
# A volume of the node's state that is mounted here belongs to the user below.
RUN mkdir -m 700 /state && chown 10001:10001 /state
WORKDIR /srv/pneumo
# TMPDIR: a large upload is buffered in memory, so that the root can be read-only and no film reaches a disk.
# MALLOC_TRIM_THRESHOLD_: glibc gives back what large films took; without it 20 of 32 megapixels leave 0.8 GB behind.
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/dev/shm \
    MALLOC_TRIM_THRESHOLD_=1048576 \
    PORT=5000
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/ready', timeout=4)"]
# Exec form: gunicorn is process 1 and gets the stop signal itself. It reads gunicorn.conf.py by itself.
CMD ["gunicorn"]
