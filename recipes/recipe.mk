# The stages of every recipe, each a file, so that Make knows which are out of date:
#   manifests → checkpoint → hypotheses → score → report
# A recipe sets its EXPERIMENT (conf/experiment) and includes this file. Run from the top folder.
# It may set:
#   CORPUS    overrides that choose the data, quoted for the shell
#   PROTOCOL  of asr score
#   DOWNLOAD  files that are needed first
#   METHOD    overrides for all stages; may depend on the run, $(*D)/$(*F)
#   TRAINING  overrides for training only; may depend on the run
#   TEXT_G2P  none or espeak, for words of texts outside the lexicon
#   TEXT_ONLY for an n-gram of TEXT without the transcripts, whose labels are not the lexicon's phones
# On the command line:
#   TUNE=1    tunes a beam search on dev, with a phone n-gram of the training transcripts (ORDER), or with
#             that of a model file: LM=asr/pretrained/librispeech.safetensors
#   TEXT="a.txt.gz b.txt.xz"  tunes with an n-gram of these texts too; LEXICON, or CMUdict, has their phones
#   PRUNE=3M  prunes that n-gram
#   GPUS=2      trains in two processes, each with a GPU, or without GPUs with its share of the cores
#   TIMES=asr/pretrained/librispeech.safetensors  aligns the splits TIMED with that model, which gives
#             their phones times
ifndef TAKES_run
include recipes/variables.mk
endif
$(call check,$(notdir $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))))
SEEDS ?= 1
NAME ?= $(EXPERIMENT)
PROTOCOL ?= strict
ORDER ?= 3
TIMED ?= train
TEXT_G2P ?= none
$(foreach name,TEXT PRUNE,$(if $(filter $(name),$(takes)),,$(eval override $(name) :=)))
TUNE ?= $(if $(TEXT),1)
PROCESSES = $(if $(filter-out 0 1,$(GPUS)),-m asr.processor.torchrun --standalone --nproc-per-node=$(GPUS))
WORDS := $(or $(LEXICON),data/cmudict-0.7b)

# Overrides get a folder of their own: ARGS="encoder.hidden=320" is exp/demo+encoder.hidden-320/1
SLUG := $(if $(strip $(ARGS)),$(shell sh recipes/run-name.sh $(call quoted,$(strip $(ARGS)))))
RUNS := exp/$(NAME)$(if $(SLUG),+$(SLUG))
PY := .venv/bin/python
OVERRIDES = experiment=$(EXPERIMENT) seed=$(*F) run_dir='$(@D)' $(strip $(if $(ROOT),corpus.root=$(call quoted,$(ROOT))) $(CORPUS) $(METHOD) $(ARGS))
PAGES := $(foreach seed,$(SEEDS),$(RUNS)/$(seed)/report.html)

all: $(PAGES)
	@echo
	@$(PY) -m asr score '$(RUNS)/$(firstword $(SEEDS))/manifests/test.jsonl' \
		$(foreach seed,$(SEEDS),'$(RUNS)/$(seed)/test.hyp.jsonl') --protocol $(PROTOCOL) | grep -E '^(%PER|mean of)'
	@echo "To look at: $(PAGES)"

# A stage with the prerequisite $(call changed,VARIABLE) is also out of date when settings.txt of the run
# has another line than that variable, NAME=VALUE; $(call noted,VARIABLE) writes the line there.
changed = $$(shell grep -qsxF $$(call quoted,$$($(1))) '$(RUNS)/$$*/settings.txt' || echo FORCE)
noted = @{ grep -sv '^$(firstword $(subst =, ,$($(1))))=' '$(@D)/settings.txt'; printf '%s\n' $(call quoted,$($(1))); } \
	> '$(@D)/.settings.txt' && mv '$(@D)/.settings.txt' '$(@D)/settings.txt'
DATA := data=$(strip $(ROOT) $(CORPUS))
NGRAM := ngram=$(or $(LM),$(strip $(ORDER) $(TEXT) $(PRUNE)))
TUNED := tune=$(TUNE)
SENTENCES = $(strip $(if $(and $(TEXT),$(TEXT_ONLY)),,'$(@D)/manifests/train.jsonl') \
	$(if $(TEXT),$(call each,--text,$(TEXT)) --lexicon $(call quoted,$(WORDS)) --g2p $(TEXT_G2P)))
.SECONDEXPANSION:

$(RUNS)/%/vocabulary.txt: $(call changed,DATA) | $(DOWNLOAD)
	$(PY) -m asr prepare $(OVERRIDES)
	$(if $(TIMES),for split in $(TIMED); do $(PY) -m asr align $(call quoted,$(TIMES)) '$(@D)/manifests/'$$split.jsonl \
		--output '$(@D)/timed.jsonl' --overwrite && mv '$(@D)/timed.jsonl' '$(@D)/manifests/'$$split.jsonl || exit 1; done)
	$(call noted,DATA)

$(RUNS)/%/training.json: $(RUNS)/%/vocabulary.txt
	$(PY) $(if $(PROCESSES),$(PROCESSES) )-m asr train $(strip $(OVERRIDES) $(TRAINING)) resume=auto

$(RUNS)/%/search.json: $(RUNS)/%/training.json $(call changed,NGRAM) | $(if $(TEXT),$(if $(LEXICON),,$(WORDS)))
	$(PY) -m asr ngram $(if $(LM),--checkpoint $(call quoted,$(LM)),$(SENTENCES) --order $(ORDER)$(if $(PRUNE), --prune-to $(PRUNE))) \
		$(if $(and $(TEXT),$(TEXT_ONLY)),,--vocabulary '$(@D)/vocabulary.txt') --output '$(@D)/lm.arpa' --overwrite
	$(PY) -m asr tune $(OVERRIDES) search=beam-lm
	$(call noted,NGRAM)

$(RUNS)/%/test.hyp.jsonl: $(RUNS)/%/$(if $(TUNE),search,training).json $(call changed,TUNED)
	$(PY) -m asr decode $(OVERRIDES) split=test $(if $(TUNE),tuned=true)
	$(call noted,TUNED)

$(RUNS)/%/test.per.txt: $(RUNS)/%/test.hyp.jsonl
	$(PY) -m asr score '$(@D)/manifests/test.jsonl' '$<' --protocol $(PROTOCOL) --output '$@' --overwrite

$(RUNS)/%/report.html: $(RUNS)/%/test.per.txt
	$(PY) -m asr report '$(@D)'

data/cmudict-0.7b:
	$(PY) -m asr download cmudict

.PHONY: all FORCE
.SECONDARY:
.DELETE_ON_ERROR:
