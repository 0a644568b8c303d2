# Every speaker tested by networks not trained on them: make timit ROOT=/path/to/timit-sample FOLDS=6
# In a fold one part of the speakers is test, the next part dev. Variables as for make timit.
EXPERIMENT ?= timit-sample
NAME ?= $(EXPERIMENT)-$(FOLDS)-folds
TEXT_ONLY := 1
TEXT_G2P := espeak
METHOD = corpus.speakers='$(RUNS)/$(*D).txt'

left-out:

include recipes/recipe.mk

LISTS := $(foreach fold,$(shell seq $(FOLDS)),$(RUNS)/fold-$(fold))
ALL := $(foreach fold,$(LISTS),$(foreach seed,$(SEEDS),$(fold)/$(seed)))
JOIN := $(PY) recipes/timit/left_out.py

left-out: $(ALL:=/test.hyp.jsonl)
	@$(JOIN) join '$(RUNS)' --seeds $(SEEDS)
	@for protocol in strict arpabet; do echo; $(PY) -m asr score '$(RUNS)/references.jsonl' \
		$(foreach seed,$(SEEDS),'$(RUNS)/heard-$(seed).jsonl') --protocol $$protocol | grep -E '^(%PER|mean of)' \
		|| exit 1; done

$(firstword $(LISTS)).txt:
	$(JOIN) split $(call quoted,$(ROOT)) $(FOLDS) '$(RUNS)'
$(ALL:=/vocabulary.txt): $(firstword $(LISTS)).txt

.PHONY: left-out
