/* sniff.h - what a file that should have been a model looks like, from its first bytes. Knows no model. Any thread. */
#pragma once
#include <stddef.h>

/* A short name of what the bytes are ("a ZIP archive, as PyTorch writes"), never NULL; *hint is what to do about it, or NULL. */
const char *bm_sniff(const void *bytes, size_t len_bytes, const char **hint);
