# baimo - build, test, run.   make help lists the targets.
PROGRAM  := baimo
VERSION  := 0.1.0
BUILD    ?= build
PREFIX   ?= /usr/local
CC       ?= gcc
CFLAGS   ?= -O2 -g
MODEL    ?=

# The library is base to engine; the program adds store, platform, server and cli.
LIB_LAYERS := base compute format text model engine
APP_LAYERS := train eval store platform server

PKGS     := libevent libevent_pthreads openssl jansson sqlite3 libutf8proc libedit yaml-0.1 libpcre2-8
PKG_LIBS  = $(shell pkg-config --libs $(PKGS) 2>/dev/null)
PKG_INC   = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)

# -ffp-contract=off everywhere: one recipe of rounding, on every machine. Kernel files say fma where they mean it.
ALL_CFLAGS = -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
             -ffp-contract=off -fno-strict-aliasing -fno-math-errno -fvisibility=hidden -pthread -Isrc -Iinclude \
             -DBM_VERSION='"$(VERSION)"' $(PKG_INC) $(CFLAGS) $(EXTRA_CFLAGS)
ALL_LIBS   = $(PKG_LIBS) -lm -pthread $(EXTRA_LDFLAGS)

LIB_SRC  := $(foreach d,$(LIB_LAYERS),$(wildcard src/$(d)/*.c))
APP_SRC  := $(foreach d,$(APP_LAYERS),$(wildcard src/$(d)/*.c))
CLI_SRC  := $(wildcard src/cli/*.c)
TEST_SRC := $(wildcard tests/*/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
LIB_OBJ  := $(LIB_SRC:src/%.c=$(BUILD)/obj/%.o)
APP_OBJ  := $(APP_SRC:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/server/page.o
CLI_OBJ  := $(CLI_SRC:src/%.c=$(BUILD)/obj/%.o)
TESTS    := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)

# V=1 shows the commands.
Q := $(if $(V),,@)
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

all: $(BUILD)/$(PROGRAM)

# Only kernel files know an instruction set; everything else is plain x86-64 (or any other CPU).
$(BUILD)/obj/compute/%_avx2.o:       ISA := -mavx2 -mfma -mf16c
$(BUILD)/obj/compute/%_avxvnni.o:    ISA := -mavx2 -mfma -mf16c -mavxvnni
$(BUILD)/obj/compute/%_avx512.o:     ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
$(BUILD)/obj/compute/%_avx512bf16.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mfma -mf16c

# Kernels are large unrolled functions: full debug information would triple their compile time, and UBSan's checks of each
# pointer make minutes of it. The scalar table holds the same logic under UBSan; ASan stays on in all.
$(BUILD)/obj/compute/kernels_%.o:    LATE := -g1
$(BUILD)/obj/compute/kernels_avx%.o: LATE := -g1 -fno-sanitize=undefined
$(BUILD)/obj/compute/grad_avx%.o:    LATE := -g1 -fno-sanitize=undefined

$(BUILD)/obj/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC    $@')
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA) $(LATE) -MMD -MP -c -o $@ $<

# The chat page is embedded: console/index.html as bytes.
$(BUILD)/gen/page.c: $(wildcard console/*) tools/embed.py
	@mkdir -p $(@D)
	$(Q)python3 tools/embed.py bm_page console/index.html > $@
$(BUILD)/obj/server/page.o: $(BUILD)/gen/page.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/libbaimo.a: $(LIB_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(BUILD)/libplatform.a: $(APP_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(BUILD)/$(PROGRAM): $(CLI_OBJ) $(BUILD)/libplatform.a $(BUILD)/libbaimo.a
	$(if $(V),,@echo '  LINK  $@')
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/tests/%: tests/%.c $(BUILD)/libplatform.a $(BUILD)/libbaimo.a
	@mkdir -p $(@D)
	$(if $(V),,@echo '  TEST  $@')
	$(Q)$(CC) $(ALL_CFLAGS) -Itests -MMD -MP -o $@ $< $(BUILD)/libplatform.a $(BUILD)/libbaimo.a -lcmocka $(ALL_LIBS)

-include $(wildcard $(BUILD)/obj/*/*.d) $(wildcard $(BUILD)/tests/*/*.d)

lib: $(BUILD)/libbaimo.a

# Set-up. `make setup` installs the Debian packages that are missing (as root; else it prints the line to run and exits 2).
setup:
	@tools/setup.sh

run:
	@tools/setup.sh
	@$(MAKE) --no-print-directory -j$(JOBS) $(BUILD)/$(PROGRAM)
	@PROGRAM=$(BUILD)/$(PROGRAM) tools/run.sh "$(MODEL)" $(ARGS)

# Ask, tune, ask again: three minutes on two cores.
demo:
	@tools/setup.sh
	@$(MAKE) --no-print-directory -j$(JOBS) $(BUILD)/$(PROGRAM)
	@PROGRAM=$(BUILD)/$(PROGRAM) tools/demo.sh

# All tests: unit programs, then black-box tests with the official client against a started server.
test:
	@tools/setup.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) all $(TESTS) $(EXAMPLES)
	@tools/get-model.sh >/dev/null
	@BUILD=$(BUILD) tests/run.sh unit blackbox
unit:
	@$(MAKE) --no-print-directory -j$(JOBS) all $(TESTS) $(EXAMPLES)
	@BUILD=$(BUILD) tests/run.sh unit
blackbox:
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@BUILD=$(BUILD) tests/run.sh blackbox

# The same suite under the sanitizers, in a build directory of its own.
SAN_FLAGS := -O1 -g -fno-omit-frame-pointer
asan:
	@$(MAKE) --no-print-directory test BUILD=build/asan CFLAGS="$(SAN_FLAGS)" \
	    EXTRA_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined" EXTRA_LDFLAGS="-fsanitize=address,undefined"
tsan:
	@TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 $(TSAN_OPTIONS)" $(MAKE) --no-print-directory test BUILD=build/tsan \
	    CFLAGS="$(SAN_FLAGS)" EXTRA_CFLAGS="-fsanitize=thread" EXTRA_LDFLAGS="-fsanitize=thread"

# Each fuzz target for FUZZ_SECONDS (clang with libFuzzer). A finding stops it and leaves its input under build/fuzz.
FUZZ_SECONDS ?= 60
FUZZERS := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
FUZZ_CFLAGS = -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -std=gnu11 -ffp-contract=off \
              -fno-strict-aliasing -pthread -Isrc -Iinclude -Itests -DBM_VERSION='"$(VERSION)"' $(PKG_INC)
FUZZ_LIB  := $(filter-out src/compute/kernels_%,$(foreach d,base format text,$(wildcard src/$(d)/*.c)) \
             $(wildcard src/compute/quant*.c)) $(wildcard src/server/request*.c src/server/fields*.c \
             src/train/example*.c src/eval/yaml*.c src/eval/task*.c src/eval/docs*.c) \
             $(foreach f,source known literal fields words,src/eval/$(f).c) src/train/mask.c src/train/rows.c src/train/scan.c src/train/source.c \
             src/server/multipart.c
build/fuzz/%: tests/fuzz/fuzz_%.c $(FUZZ_LIB)
	@mkdir -p $(@D)
	clang $(FUZZ_CFLAGS) -o $@ $^ $(PKG_LIBS) -lm
fuzz:
	@tools/setup.sh fuzz
	@for f in $(FUZZERS); do \
	    $(MAKE) --no-print-directory build/fuzz/$$f && mkdir -p build/fuzz/corpus/$$f && \
	    (cd build/fuzz && ./$$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=4096 -print_final_stats=0 \
	        corpus/$$f ../../tests/fuzz/corpus/$$f) || exit 1; done

# Speed against the peers in one run, resumable; bench/run.py --help, docs/SPEED.md. ARGS="--only inference --rounds 3"
bench: $(BUILD)/$(PROGRAM)
	@python3 bench/run.py --program $(BUILD)/$(PROGRAM) $(ARGS)

EXAMPLE_SRC := $(wildcard examples/*.c)
EXAMPLES    := $(EXAMPLE_SRC:examples/%.c=$(BUILD)/examples/%)
$(BUILD)/examples/%: examples/%.c $(BUILD)/libbaimo.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -Wall -Wextra -Iinclude -o $@ $< $(BUILD)/libbaimo.a $(ALL_LIBS)

install: $(BUILD)/$(PROGRAM) $(BUILD)/libbaimo.a
	install -D -m 755 $(BUILD)/$(PROGRAM) $(DESTDIR)$(PREFIX)/bin/$(PROGRAM)
	install -D -m 644 $(BUILD)/libbaimo.a $(DESTDIR)$(PREFIX)/lib/libbaimo.a
	install -D -m 644 include/baimo.h $(DESTDIR)$(PREFIX)/include/baimo.h
	@find tasks -type f | while read f; do install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/baimo/$$f; done
	@if [ -f docs/baimo.1 ]; then install -D -m 644 docs/baimo.1 $(DESTDIR)$(PREFIX)/share/man/man1/baimo.1; fi

unicode:
	python3 tools/gen_unicode.py

clean:
	rm -rf build

help:
	@echo "make            build build/baimo"
	@echo "make run        set up, build, fetch a small model, start the server     MODEL=FILE.gguf uses yours"
	@echo "make demo       ask a model who it is, tune it, ask again; three minutes"
	@echo "make setup      install the missing Debian packages (root), or print the line that does"
	@echo "make test       all tests; make unit and make blackbox are its halves"
	@echo "make asan tsan  the same under AddressSanitizer + UBSan, ThreadSanitizer"
	@echo "make fuzz       every fuzz target for FUZZ_SECONDS=60 each"
	@echo "make bench      speed beside llama.cpp"
	@echo "make install    PREFIX=/usr/local"

.PHONY: all lib setup run demo test unit blackbox asan tsan fuzz bench install unicode clean help
.DELETE_ON_ERROR:
.SECONDARY:
