# docker build --target use -t asr .            models only, some 0.5 GB
# docker build --target train -t asr-train .    what trains too, with torch for CUDA
#
#   docker run --rm -v "$PWD:/data" asr transcribe my.wav
#   docker run --rm --gpus all -v "$PWD:/data" asr-train train experiment=timit corpus.root=TIMIT

FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim AS use
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
# What a first use compiles and unpacks is in the image, for any user.
ENV NUMBA_CACHE_DIR=/var/cache/asr/numba ASR_CACHE=/var/cache/asr/models
RUN mkdir -p "$NUMBA_CACHE_DIR" "$ASR_CACHE" \
 && python -c "import numpy, soundfile; soundfile.write('/tmp/noise.wav', numpy.random.default_rng(0).normal(0, 0.1, 64000), 16000)" \
 && asr transcribe /tmp/noise.wav && asr transcribe /tmp/noise.wav --words \
 && (asr assess /tmp/noise.wav hello || true) && rm /tmp/noise.wav
WORKDIR /data
ENTRYPOINT ["asr"]

FROM use AS train
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[train,synthetic,g2p]" && rm -r /wheels
