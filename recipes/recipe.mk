# The stages of every recipe, each a real file, so that Make knows what is stale:
#   manifests → checkpoint → hypotheses → score → report
# A recipe names its EXPERIMENT (conf/experiment) and includes this file. Run from the top folder.
SEEDS ?= 1
NAME ?= $(EXPERIMENT)

# Overrides get a run of their own: ARGS="encoder.hidden=320" is exp/demo+encoder.hidden-320/1
empty :=
comma := ,
SLUG := $(subst $(comma),-,$(strip $(ARGS)))
$(foreach sign,= / : { } [ ] ' ",$(eval SLUG := $$(subst $(sign),-,$$(SLUG))))
RUNS := exp/$(NAME)$(if $(SLUG),+$(subst $(empty) $(empty),+,$(SLUG)))
PY := .venv/bin/python
OVERRIDES = experiment=$(EXPERIMENT) seed=$* run_dir='$(@D)' $(if $(ROOT),corpus.root='$(ROOT)') $(ARGS)
PAGES := $(foreach seed,$(SEEDS),$(RUNS)/$(seed)/report.html)

all: $(PAGES)
	@echo
	@$(PY) -m asr.score '$(RUNS)/$(firstword $(SEEDS))/manifests/test.jsonl' \
		$(foreach seed,$(SEEDS),'$(RUNS)/$(seed)/test.hyp.jsonl') | grep -E '^(%PER|mean of)'
	@echo "To look at: $(PAGES)"

# Another ROOT than last time makes the manifests stale.
.SECONDEXPANSION:
$(RUNS)/%/vocabulary.txt: $$(shell [ "$$$$(cat '$(RUNS)/$$*/root.txt' 2>/dev/null)" = '$(ROOT)' ] || echo FORCE)
	$(PY) -m asr.prepare $(OVERRIDES)
	@printf '%s' '$(ROOT)' > '$(@D)/root.txt'

$(RUNS)/%/training.json: $(RUNS)/%/vocabulary.txt
	$(PY) -m asr.train $(OVERRIDES) resume=auto

$(RUNS)/%/test.hyp.jsonl: $(RUNS)/%/training.json
	$(PY) -m asr.decode $(OVERRIDES) split=test

$(RUNS)/%/test.per.txt: $(RUNS)/%/test.hyp.jsonl
	$(PY) -m asr.score '$(@D)/manifests/test.jsonl' '$<' --output '$@'

$(RUNS)/%/report.html: $(RUNS)/%/test.per.txt
	$(PY) -m asr.report '$(@D)'

.PHONY: all FORCE
.SECONDARY:
.DELETE_ON_ERROR:
