// A host in C++ that runs one script to its end. See host.c. Main thread.
#include <cstdio>
#include <memory>
#include <moondog.h>

struct end_runtime {
    void operator()(md_runtime *runtime) const
    {
        md_free(runtime);
    }
};

int main(int argc, char **argv)
{
    md_options options;
    md_options_init(&options);
    options.log_format = "json";
    options.stopped = [](void *closure) { *static_cast<bool *>(closure) = true; };
    bool stopped = false;
    options.stopped_closure = &stopped;

    md_error error = {};
    std::unique_ptr<md_runtime, end_runtime> runtime(md_create(&options, &error));
    if (argc != 2 || !runtime || md_load(runtime.get(), argv[1], &error) != 0) {
        std::fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    md_post(
        runtime.get(),
        [](md_runtime *posted, void *) {
            if (posted)
                md_stop(posted);
        },
        nullptr);
    md_run(runtime.get());
    if (!stopped)
        return 1;
    std::printf("moondog %s\n", md_version());
    return 0;
}
