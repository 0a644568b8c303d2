# The stages of every recipe, each a real file, so that Make knows what is stale:
#   manifests → checkpoint → hypotheses → score → report
# A recipe names its EXPERIMENT (conf/experiment) and includes this file. Run from the top folder.
# It may set CORPUS, overrides that say which data (quoted for the shell), PROTOCOL, and DOWNLOAD,
# files that must be there first.
SEEDS ?= 1
NAME ?= $(EXPERIMENT)
PROTOCOL ?= strict

# Overrides get a run of their own: ARGS="encoder.hidden=320" is exp/demo+encoder.hidden-320/1
empty :=
comma := ,
SLUG := $(subst $(comma),-,$(strip $(ARGS)))
$(foreach sign,= / : { } [ ] ' ",$(eval SLUG := $$(subst $(sign),-,$$(SLUG))))
RUNS := exp/$(NAME)$(if $(SLUG),+$(subst $(empty) $(empty),+,$(SLUG)))
PY := .venv/bin/python
OVERRIDES = experiment=$(EXPERIMENT) seed=$* run_dir='$(@D)' $(strip $(if $(ROOT),corpus.root='$(ROOT)') $(CORPUS) $(ARGS))
PAGES := $(foreach seed,$(SEEDS),$(RUNS)/$(seed)/report.html)

all: $(PAGES)
	@echo
	@$(PY) -m asr.score '$(RUNS)/$(firstword $(SEEDS))/manifests/test.jsonl' \
		$(foreach seed,$(SEEDS),'$(RUNS)/$(seed)/test.hyp.jsonl') --protocol $(PROTOCOL) | grep -E '^(%PER|mean of)'
	@echo "To look at: $(PAGES)"

# Another ROOT or CORPUS than last time makes the manifests stale.
DATA := $(strip $(ROOT) $(CORPUS))
.SECONDEXPANSION:
$(RUNS)/%/vocabulary.txt: $$(shell [ "$$$$(cat '$(RUNS)/$$*/root.txt' 2>/dev/null)" = "$(DATA)" ] || echo FORCE) | $(DOWNLOAD)
	$(PY) -m asr.prepare $(OVERRIDES)
	@printf '%s' "$(DATA)" > '$(@D)/root.txt'

$(RUNS)/%/training.json: $(RUNS)/%/vocabulary.txt
	$(PY) -m asr.train $(OVERRIDES) resume=auto

$(RUNS)/%/test.hyp.jsonl: $(RUNS)/%/training.json
	$(PY) -m asr.decode $(OVERRIDES) split=test

$(RUNS)/%/test.per.txt: $(RUNS)/%/test.hyp.jsonl
	$(PY) -m asr.score '$(@D)/manifests/test.jsonl' '$<' --protocol $(PROTOCOL) --output '$@'

$(RUNS)/%/report.html: $(RUNS)/%/test.per.txt
	$(PY) -m asr.report '$(@D)'

.PHONY: all FORCE
.SECONDARY:
.DELETE_ON_ERROR:
