/* A host that loads moondog at run time, runs one script to its end, and lets go of it: twice. Main
 * thread. */
#include <dlfcn.h>
#include <moondog.h>
#include <stdio.h>

/* POSIX lets what dlsym() returns become a function; C has no word for that. */
#define FIND(library, function) (*(void **)&function = dlsym(library, #function))

static int run(const char *path, const char *script)
{
    void (*md_options_init_sized)(md_options *, size_t);
    md_runtime *(*md_create)(const md_options *, md_error *);
    int (*md_load)(md_runtime *, const char *, md_error *);
    void (*md_stop)(md_runtime *);
    int (*md_run)(md_runtime *);
    unsigned (*md_free)(md_runtime *);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL || !FIND(library, md_options_init_sized) || !FIND(library, md_create) ||
        !FIND(library, md_load) || !FIND(library, md_stop) || !FIND(library, md_run) ||
        !FIND(library, md_free)) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }

    md_options options;
    md_error error;
    md_options_init(&options);
    options.log_format = "json";
    md_runtime *runtime = md_create(&options, &error);
    if (runtime == NULL || md_load(runtime, script, &error) != 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    md_stop(runtime);
    md_run(runtime);
    md_free(runtime);
    dlclose(library);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3 || run(argv[1], argv[2]) != 0 || run(argv[1], argv[2]) != 0)
        return 1;
    /* Threads of the NATS library go on: their code has to stay. */
    if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL) {
        fprintf(stderr, "it was unloaded\n");
        return 1;
    }
    return 0;
}
