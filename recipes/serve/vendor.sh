#!/usr/bin/env bash
# Fetches the files of wavesurfer.js (BSD-3-Clause) that the page of `asr serve` has in its folder
# vendor/, as npm has them:
#
#     recipes/serve/vendor.sh            # then: git diff --stat
set -euo pipefail
VERSION=8.0.1
vendor=$(cd "$(dirname "$0")/../../asr/serving/page/vendor" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"
npm pack --silent "wavesurfer.js@$VERSION" >/dev/null
tar xzf wavesurfer.js-*.tgz
cp package/dist/wavesurfer.esm.js "$vendor"
cp package/dist/plugins/{spectrogram,timeline}.esm.js "$vendor"
cp package/LICENSE "$vendor/wavesurfer.license.txt"
