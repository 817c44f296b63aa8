/* yaml_scalar.h - what an untagged or tagged YAML scalar means: PyYAML's SafeLoader (YAML 1.1). Private to yaml.c. */
#pragma once
#include <stdbool.h>
#include "eval/yaml.h"

/* Turn a STR node into what its text means. NULL, or what is wrong with it. */
const char *bm_yaml_scalar_resolve(bm_yaml_node *n);
const char *bm_yaml_scalar_tagged(bm_yaml_node *n, const char *tag);
/* A scalar key as json.dumps writes it; false for collections and functions. */
bool bm_yaml_scalar_text(const bm_yaml_node *n, char out[40]);
