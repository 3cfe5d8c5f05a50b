/* A host in C with an event loop of its own, which runs one script to its end: the tests of what is
 * installed build it and run it. It has names that moondog has inside. Main thread. */
#include <moondog.h>
#include <poll.h>
#include <stdio.h>

int error_set(const char *text);
int error_set(const char *text)
{
    fprintf(stderr, "%s\n", text);
    return 1;
}

int main(int argc, char **argv)
{
    md_options options;
    md_error error = {"usage", "usage: host SCRIPT", ""};
    md_runtime *runtime = NULL;

    md_options_init(&options);
    options.log_format = "json";
    if (argc == 2)
        runtime = md_create(&options, &error);
    if (runtime == NULL || md_load(runtime, argv[1], &error) != 0) {
        md_free(runtime);
        return error_set(error.message);
    }
    md_stop(runtime);
    while (md_poll(runtime, 1000) >= 0) {
        struct pollfd ready = {md_backend_fd(runtime), POLLIN, 0};
        poll(&ready, 1, md_backend_timeout(runtime));
    }
    printf("moondog %s\n", md_version());
    return (int)md_free(runtime);
}
