/* dump_tasks.c - for tests/oracle/eval/: one line of JSON per task file named on standard input: its resolved configuration, or why it was
 * refused. Groups are resolved with the files of the folders in argv.
 * usage: dump_tasks [DIR...] < files          {"file", "kind": "task"|"group"|"refused", "config" | "code", "error"} */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "eval/source.h"
#include "eval/task.h"

static void print(json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT);

    puts(text);
    json_decref(line);
    free(text);
}

static void dump(const char *file, const bm_task_index *index)
{
    bm_error err = {0};
    bm_source source;
    bm_task *task = NULL;
    bm_task_list *list = NULL;
    json_t *line = json_pack("{s:s}", "file", file);
    int rc = bm_source_read(&source, file, &err);
    bool group = rc == 0 && bm_yaml_get(source.map, "group") != NULL && bm_yaml_get(source.map, "class") == NULL;

    if (rc == 0)
        bm_source_done(&source);
    if (rc == 0 && group) {
        rc = bm_task_list_load(&list, index, &file, 1, NULL, &err);
        json_object_set_new(line, "kind", json_string("group"));
        json_t *names = json_array();
        for (size_t i = 0; list != NULL && i < list->n_tasks; i++)
            json_array_append_new(names, json_string(list->tasks[i]->name));
        json_object_set_new(line, "tasks", names);
    } else if (rc == 0 && (rc = bm_task_load_file(&task, file, NULL, &err)) == 0) {
        json_object_set_new(line, "kind", json_string("task"));
        json_object_set(line, "config", task->config);
    }
    if (rc < 0) {
        json_object_set_new(line, "kind", json_string("refused"));
        json_object_set_new(line, "code", json_string(bm_error_name(rc)));
        json_object_set_new(line, "error", json_string(err.msg));
    }
    print(line);
    bm_task_free(task);
    bm_task_list_free(list);
}

int main(int argc, char **argv)
{
    bm_task_index *index = NULL;
    bm_error err = {0};
    char name[4096];

    if (argc > 1 && bm_task_index_open(&index, (const char *const *)argv + 1, (size_t)argc - 1, NULL, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    while (fgets(name, sizeof name, stdin) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        dump(name, index);
    }
    bm_task_index_close(index);
    return 0;
}
