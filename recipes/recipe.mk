# The stages of every recipe, each a real file, so that Make knows what is stale:
#   manifests → checkpoint → hypotheses → score → report
# A recipe names its EXPERIMENT (conf/experiment) and includes this file. Run from the top folder.
# It may set CORPUS, overrides that say which data (quoted for the shell), PROTOCOL, and DOWNLOAD,
# files that must be there first, METHOD and TRAINING, overrides of all stages and of training alone,
# which may depend on the run, $(*D)/$(*F). TUNE=1 tunes a beam search with a phone ORDER-gram on dev,
# of the training transcripts, or with the n-gram of a model file, LM=asr/pretrained/librispeech.safetensors.
# TIMES=asr/pretrained/librispeech.safetensors adds times of phones, found by that model, to the training set.
SEEDS ?= 1
NAME ?= $(EXPERIMENT)
PROTOCOL ?= strict
ORDER ?= 3

# Overrides get a run of their own: ARGS="encoder.hidden=320" is exp/demo+encoder.hidden-320/1
empty :=
comma := ,
SLUG := $(subst $(comma),-,$(strip $(ARGS)))
$(foreach sign,= / : { } [ ] ' ",$(eval SLUG := $$(subst $(sign),-,$$(SLUG))))
RUNS := exp/$(NAME)$(if $(SLUG),+$(subst $(empty) $(empty),+,$(SLUG)))
PY := .venv/bin/python
OVERRIDES = experiment=$(EXPERIMENT) seed=$(*F) run_dir='$(@D)' $(strip $(if $(ROOT),corpus.root='$(ROOT)') $(CORPUS) $(METHOD) $(ARGS))
PAGES := $(foreach seed,$(SEEDS),$(RUNS)/$(seed)/report.html)

all: $(PAGES)
	@echo
	@$(PY) -m asr score '$(RUNS)/$(firstword $(SEEDS))/manifests/test.jsonl' \
		$(foreach seed,$(SEEDS),'$(RUNS)/$(seed)/test.hyp.jsonl') --protocol $(PROTOCOL) | grep -E '^(%PER|mean of)'
	@echo "To look at: $(PAGES)"

# Another ROOT or CORPUS than last time makes the manifests stale.
DATA := $(strip $(ROOT) $(CORPUS))
.SECONDEXPANSION:
$(RUNS)/%/vocabulary.txt: $$(shell [ "$$$$(cat '$(RUNS)/$$*/root.txt' 2>/dev/null)" = "$(DATA)" ] || echo FORCE) | $(DOWNLOAD)
	$(PY) -m asr prepare $(OVERRIDES)
	$(if $(TIMES),$(PY) -m asr align '$(TIMES)' '$(@D)/manifests/train.jsonl' --output '$(@D)/timed.jsonl')
	$(if $(TIMES),mv '$(@D)/timed.jsonl' '$(@D)/manifests/train.jsonl')
	@printf '%s' "$(DATA)" > '$(@D)/root.txt'

$(RUNS)/%/training.json: $(RUNS)/%/vocabulary.txt
	$(PY) -m asr train $(strip $(OVERRIDES) $(TRAINING)) resume=auto

# Another LM or ORDER than last time makes the search stale.
$(RUNS)/%/search.json: $(RUNS)/%/training.json \
		$$(shell [ "$$$$(cat '$(RUNS)/$$*/ngram.txt' 2>/dev/null)" = "$(or $(LM),$(ORDER))" ] || echo FORCE)
	$(PY) -m asr ngram $(if $(LM),--checkpoint '$(LM)','$(@D)/manifests/train.jsonl' --order $(ORDER)) \
		--vocabulary '$(@D)/vocabulary.txt' --output '$(@D)/lm.arpa'
	$(PY) -m asr tune $(OVERRIDES) search=beam-lm
	@printf '%s' "$(or $(LM),$(ORDER))" > '$(@D)/ngram.txt'

# With and without TUNE are two searches: whichever was not asked for last is stale.
$(RUNS)/%/test.hyp.jsonl: $(RUNS)/%/$(if $(TUNE),search,training).json \
		$$(shell [ "$$$$(cat '$(RUNS)/$$*/tuned.txt' 2>/dev/null)" = "$(TUNE)" ] || echo FORCE)
	$(PY) -m asr decode $(OVERRIDES) split=test $(if $(TUNE),tuned=true)
	@printf '%s' "$(TUNE)" > '$(@D)/tuned.txt'

$(RUNS)/%/test.per.txt: $(RUNS)/%/test.hyp.jsonl
	$(PY) -m asr score '$(@D)/manifests/test.jsonl' '$<' --protocol $(PROTOCOL) --output '$@'

$(RUNS)/%/report.html: $(RUNS)/%/test.per.txt
	$(PY) -m asr report '$(@D)'

.PHONY: all FORCE
.SECONDARY:
.DELETE_ON_ERROR:
