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
APP_LAYERS := store platform server

PKGS     := libevent libevent_openssl libevent_pthreads openssl jansson sqlite3 libedit
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

all: $(BUILD)/$(PROGRAM)

# Only kernel files know an instruction set; everything else is plain x86-64 (or any other CPU).
$(BUILD)/obj/compute/%_avx2.o:       ISA := -mavx2 -mfma -mf16c
$(BUILD)/obj/compute/%_avxvnni.o:    ISA := -mavx2 -mfma -mf16c -mavxvnni
$(BUILD)/obj/compute/%_avx512.o:     ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
$(BUILD)/obj/compute/%_avx512bf16.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mfma -mf16c

$(BUILD)/obj/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ISA) -MMD -MP -c -o $@ $<

# The chat page is embedded: console/index.html as bytes.
$(BUILD)/gen/page.c: $(wildcard console/*) tools/embed.py
	@mkdir -p $(@D)
	python3 tools/embed.py bm_page console/index.html > $@
$(BUILD)/obj/server/page.o: $(BUILD)/gen/page.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/libbaimo.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^
$(BUILD)/libplatform.a: $(APP_OBJ)
	@rm -f $@
	ar rcs $@ $^
$(BUILD)/$(PROGRAM): $(CLI_OBJ) $(BUILD)/libplatform.a $(BUILD)/libbaimo.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/tests/%: tests/%.c $(BUILD)/libplatform.a $(BUILD)/libbaimo.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests -MMD -MP -o $@ $< $(BUILD)/libplatform.a $(BUILD)/libbaimo.a -lcmocka $(ALL_LIBS)

-include $(wildcard $(BUILD)/obj/*/*.d) $(wildcard $(BUILD)/tests/*/*.d)

lib: $(BUILD)/libbaimo.a
unit: $(TESTS) $(BUILD)/$(PROGRAM)
	BUILD=$(BUILD) tests/run.sh unit

clean:
	rm -rf build

.PHONY: all lib unit clean
.DELETE_ON_ERROR:
