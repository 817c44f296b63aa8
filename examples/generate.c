/* generate.c - ask a model one question.
 * cc generate.c -lbaimo $(pkg-config --libs jansson openssl libutf8proc) -lm -pthread && ./a.out smollm2.gguf "What is the capital of France?" */
#include <baimo.h>
#include <stdio.h>

static int print_piece(void *arg, const baimo_piece *piece)
{
    (void)arg;
    fputs(piece->text, stdout);
    return fflush(stdout);       /* non-zero, when stdout is gone, cancels the rest */
}

int main(int argc, char **argv)
{
    baimo *model;
    baimo_error err;

    if (argc != 3)
        return fprintf(stderr, "usage: %s MODEL.gguf QUESTION\n", argv[0]), 2;
    if (baimo_open(&model, argv[1], NULL, &err) != BAIMO_OK)
        return fprintf(stderr, "%s\n%s\n", err.message, err.hint), 1;
    baimo_settings settings;
    baimo_settings_init(&settings);
    settings.temperature = 0;
    baimo_message question = { "user", argv[2] };
    int rc = baimo_chat(model, &question, 1, &settings, print_piece, NULL, NULL, &err);
    if (rc != BAIMO_OK)
        fprintf(stderr, "%s\n%s\n", err.message, err.hint);
    putchar('\n');
    baimo_close(model);
    return rc != BAIMO_OK;
}
