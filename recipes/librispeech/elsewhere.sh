#!/bin/sh
# Training on a machine without a network that accepts only files of limited size
# (recipes/librispeech/README.md, "On another machine"). Call it in the top folder whenever pieces have
# arrived, and again to continue a training that the time limit ended:
#
#   sh recipes/librispeech/elsewhere.sh PIECES RUN OUTPUT
#
# PIECES is the folder that pieces.py packed, or a part of it; RUN is a working folder; OUTPUT gets a
# checkpoint in half precision for each seed, and runs.tar.gz with curves, logs and scores.
#
#   EXPERIMENT   of conf/experiment                                  (librispeech-18h)
#   SEEDS        networks that are trained at the same time          (1)
#   ARGS         overrides of asr train                              (none)
#   EPOCHS       of each network; if not set, a trial of one epoch determines it
#   MINUTES      from the start of this script until training ends   (9)
#   PY           the interpreter                                     (.venv/bin/python)
set -eu
[ $# -eq 3 ] || { sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2; }
pieces=$1 run=$2 output=$3
: "${EXPERIMENT:=librispeech-18h}" "${SEEDS:=1}" "${ARGS=}" "${EPOCHS=}" "${MINUTES:=9}" "${PY:=.venv/bin/python}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
begun=$(date +%s)

left() { # seconds until the limit
	echo $((begun + MINUTES * 60 - $(date +%s)))
}

train() { # FOLDER_PREFIX EPOCHS: train all networks at the same time; first exit code other than 0
	pids='' code=0
	seconds=$(left)
	[ "$seconds" -gt 0 ] || { echo "error: MINUTES=$MINUTES have passed; raise MINUTES" >&2; return 1; }
	for seed in $SEEDS; do
		folder="$run/$1$seed"
		mkdir -p "$folder"
		ln -sfn ../manifests "$folder/manifests"
		ln -sfn ../vocabulary.txt "$folder/vocabulary.txt"
		timeout "$seconds" "$PY" -m asr train experiment="$EXPERIMENT" corpus.root=unused \
			training.workers="$workers" $ARGS seed="$seed" run_dir="$folder" resume=auto \
			training.epochs="$2" training.patience="$2" >>"$folder/log.txt" 2>&1 &
		pids="$pids $!"
	done
	for pid in $pids; do
		wait "$pid" || { status=$?; [ "$code" -ne 0 ] || code=$status; }
	done
	return "$code"
}

keep_texts() { # curves, logs, scores and pictures of all networks
	(cd "$run" && find $SEEDS -maxdepth 1 -type f ! -name '*.safetensors' ! -name '.*') |
		tar -czf "$output/runs.tar.gz" -C "$run" -T -
}

"$PY" recipes/librispeech/pieces.py unpack --wav "$pieces" "$run" || { code=$?; [ "$code" -eq 3 ] && exit 0; exit "$code"; }

set -- $SEEDS
workers=$(($(getconf _NPROCESSORS_ONLN) / $#))
[ -z "$EPOCHS" ] || echo "$EPOCHS" >"$run/epochs.txt"
if [ ! -f "$run/epochs.txt" ]; then
	code=0 before=$(left)
	train trial- 1 || code=$?
	if [ "$code" -ne 0 ]; then
		tail -n 1 "$run"/trial-*/log.txt >&2
		[ "$code" -ne 124 ] || echo "error: no epoch finished within MINUTES=$MINUTES; raise MINUTES, or set EPOCHS" >&2
		exit 1
	fi
	# The start-up time of the trial is needed again; 5 % of the rest is kept in reserve.
	"$PY" - "$before" "$(left)" "$run"/trial-*/train.jsonl >"$run/epochs.txt.partial" <<-'END'
		import json, sys
		before, left = map(int, sys.argv[1:3])
		epoch = max(json.loads(open(path).readline())["seconds"] for path in sys.argv[3:])
		print(max(1, int(0.95 * (left - (before - left - epoch)) / epoch)))
	END
	mv "$run/epochs.txt.partial" "$run/epochs.txt"
fi
epochs=$(cat "$run/epochs.txt")
echo "$# networks of $epochs epochs, $workers workers each"
code=0
train '' "$epochs" || code=$?
for seed in $SEEDS; do
	tail -n 1 "$run/$seed/log.txt" | sed "s/^/$seed: /"
done
mkdir -p "$output"
keep_texts
"$PY" - "$run" "$output" $SEEDS <<-'END'
	import sys
	from pathlib import Path
	from asr import checkpoint
	from asr.training.run_directory import RunDirectory
	run, output = map(Path, sys.argv[1:3])
	for seed in sys.argv[3:]:
	    best = RunDirectory(run / seed).best
	    if best.exists():
	        checkpoint.save(output / f"{seed}.safetensors", checkpoint.load(best), half=True)
END
[ "$code" -ne 124 ] || echo "MINUTES=$MINUTES ended the training; call again to continue it"
[ "$code" -eq 0 ] || [ "$code" -eq 124 ] || exit "$code"
for seed in $SEEDS; do
	[ -f "$output/$seed.safetensors" ] || { echo "error: seed $seed: no epoch finished; raise MINUTES" >&2; exit 1; }
done

pids=''
set --
for manifest in "$run"/manifests/dev*.jsonl; do
	set -- "$@" --manifest "$manifest"
done
for seed in $SEEDS; do
	"$PY" recipes/librispeech/conditions.py "$run/$seed/checkpoint-best.safetensors" "$@" --greedy \
		--only "as recorded" --only "10 s of zeros" --only "white noise, 10 dB" --only nobody \
		>"$run/$seed/conditions.txt" &
	pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
head -n 2 "$run/${SEEDS%% *}/conditions.txt"
for seed in $SEEDS; do tail -n +3 "$run/$seed/conditions.txt"; done
keep_texts
