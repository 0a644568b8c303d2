# What a command line may set, by target. A variable with another name would be ignored in silence, so it
# is refused, as is a value that is no number or switch where one is expected.
TAKES_run := ARGS SEEDS NAME EXPERIMENT PROTOCOL CORPUS METHOD TRAINING TUNE ORDER LM TIMES TIMED ROOT DOWNLOAD
TAKES_demo := $(TAKES_run) GPUS
TAKES_librispeech := $(TAKES_run) GPUS TRAIN DEV TEST LEXICON LIST TEXT PRUNE
TAKES_folder := $(TAKES_run) GPUS FINETUNE LEXICON TEXT PRUNE
TAKES_timit := $(TAKES_run) GPUS FOLDS LEXICON TEXT PRUNE
TAKES_timit-sample := $(TAKES_timit)
TAKES_graves2013 := $(TAKES_run) NETWORKS JOBS LAUNCHER
TAKES_methods := $(TAKES_run) GPUS BASE SIZES METHODS GMM PASSES FRAMEWISE TRANSDUCER WIDTH ALIGN JOBS
TAKES_explain := $(TAKES_run) GPUS UTTERANCE
TAKES_peers := ARGS ROOT EXPERIMENT MODEL WORDS PEERS TUNE SNR NOISE ZEROS EMPTY SPLIT HEARD \
	ONE_SPEAKER OUTPUT DEV TEST LEXICON ALIGN TRAIN
TAKES_page := MODEL OUTPUT INT8
EVERYWHERE := PYTHON VENV PY MAKE MAKEFLAGS SHELL
NUMBERS := SEEDS ZEROS
NUMBER := GPUS ORDER FOLDS JOBS PASSES WIDTH EMPTY
SWITCH := TUNE FINETUNE ALIGN ONE_SPEAKER INT8

# Text in quotes of the shell, which replaces a first ~/; an option for each path of a list, or for one
# path with blanks.
quoted = $(subst '~/,~/','$(subst ','\'',$(1))')
each = $(if $(shell test -e $(call quoted,$(2)) && echo 1),$(1) $(call quoted,$(2)),$(foreach one,$(2),$(1) $(call quoted,$(one))))
empty :=
comma := ,
# Variables of the environment count too: the first line of the output names them.
typed := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
nearest = $(shell python3 -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1))' \
	$(call quoted,$(1)) $(sort $(takes)) 2>/dev/null)
is_number = $(shell printf '%s\n' $(call quoted,$(1)) | grep -Eqx '[0-9]{1,9}' && echo yes)
repeated = $(filter-out $(words $(sort $(1))),$(words $(1)))

# Paths are taken as they stand, with $ in them, unless Make's own $(NAME) or $$ is there.
open := (
literal = $(if $(findstring $$$$,$(value $(1)))$(findstring $$$(open),$(value $(1))),$($(1)),$(value $(1)))
$(foreach name,ROOT LEXICON LIST LM OUTPUT TIMES MODEL WORDS HEARD TEXT,$(if $(value $(name)),$(eval override $(name) := $$(call literal,$(name)))))

# The files and folders of ROOT that fit a pattern.
in_root = $(if $(ROOT),$(shell cd $(call quoted,$(ROOT)) 2>/dev/null && ls -d $(1) 2>/dev/null))

# The CPU threads of each of JOBS processes; 0, all of them, without JOBS.
CORES := $(shell getconf _NPROCESSORS_ONLN)
JOBS ?= 1
THREADS := $(if $(filter 1,$(JOBS)),0,$(shell echo $$(( $(CORES) > $(JOBS) ? $(CORES) / $(JOBS) : 1 )) 2>/dev/null))

# $(call check,TARGETS): an error for the first variable that none of them takes, or with a wrong value.
define check
$(eval takes := $(EVERYWHERE) $(foreach target,$(1),$(TAKES_$(target))))
$(foreach name,$(filter-out $(takes),$(typed)),\
	$(eval near := $(call nearest,$(name)))\
	$(error $(name) is no variable of make $(1)$(if $(near),; did you mean $(near)?) (known: $(sort $(takes)))))
$(eval inherited := $(foreach name,$(filter-out $(EVERYWHERE),$(takes)),$(if $(filter environment,$(origin $(name))),$(name))))
$(if $(filter 0,$(MAKELEVEL)),$(foreach name,$(inherited),$(info From the environment: $(name)=$(value $(name)))))
$(eval given := $(typed) $(inherited))
$(foreach name,$(filter $(SWITCH),$(given)),$(if $(filter-out 1,$(or $($(name)),1)),\
	$(error $(name) is '$($(name))'$(comma) expected 1$(comma) or leave it out)))
$(foreach name,$(filter $(NUMBER),$(given)),$(if $(call is_number,$($(name))),,\
	$(error $(name) is '$($(name))'$(comma) expected a whole number)))
$(foreach name,$(filter $(NUMBERS),$(given)),$(if $(strip $($(name))),\
	$(foreach one,$($(name)),$(if $(call is_number,$(patsubst -%,%,$(one))),,\
		$(error $(name) is '$($(name))'$(comma) expected whole numbers$(comma) as in $(name)="1 2 3"))),\
	$(if $(filter SEEDS,$(name)),$(error SEEDS is empty$(comma) expected whole numbers$(comma) as in SEEDS="1 2 3"))))
$(if $(ARGS),$(if $(shell sh -nc $(call quoted,set -- $(ARGS)) 2>/dev/null && echo 1),,\
	$(error ARGS is $(ARGS)$(comma) expected overrides in quotes that the shell can read$(comma) as in ARGS="corpus.root='/a b'")))
$(if $(filter SEEDS,$(given)),$(if $(call repeated,$(SEEDS)),$(error SEEDS is '$(SEEDS)'$(comma) expected each seed once)))
endef
