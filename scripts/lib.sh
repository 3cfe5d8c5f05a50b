# shellcheck shell=bash
# Functions that the scripts of this folder share. Sourced, after `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly root

# Debian puts servers here, and leaves it out of a user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

note() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
    note "$*"
    exit 1
}

usage_error() {
    note "$*"
    exit 2
}

# The folder that a preset builds into; within another Debian suite (scripts/suite) one of its own.
build_folder() {
    local base=$root/build${MOONDOG_SUITE:+-$MOONDOG_SUITE}
    case $1 in
    release) printf '%s\n' "$base" ;;
    debug | asan | tsan | fuzz | coverage) printf '%s\n' "$base-$1" ;;
    *) usage_error "unknown preset \"$1\": there are release, debug, asan and tsan" ;;
    esac
}

# The value of a variable in the CMake cache of a build folder; empty when there is none.
cmake_variable() {
    sed -n "s/^$2:[A-Z]*=//p" "$1/CMakeCache.txt" 2>/dev/null || true
}

# Runs a command that has much to say, and shows it only when the command fails.
quietly() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        return 1
    fi
}

needs_configuring() {
    local folder=$1
    [[ ! -e $folder/build.ninja ]] ||
        [[ $root/CMakePresets.json -nt $folder/build.ninja ]] ||
        [[ $(cmake_variable "$folder" CMAKE_HOME_DIRECTORY) != "$root" ]] ||
        { [[ $with_tests == yes ]] && [[ -z $(cmake_variable "$folder" CMOCKA_FOUND) ]]; }
}

configure() {
    local preset=$1 folder=$2 fresh=()
    local home
    home=$(cmake_variable "$folder" CMAKE_HOME_DIRECTORY)
    if [[ -n $home && $home != "$root" ]]; then
        fresh=(--fresh) # the folder was copied or moved here, with the paths of elsewhere
    fi
    note "configuring $(basename "$folder")/"
    quietly "$folder/configure.log" cmake -S "$root" -B "$folder" --preset "$preset" "${fresh[@]}" ||
        die "the configuration failed; its output is above"
    touch "$folder/build.ninja"
}

# build PRESET run|demo|faults|bench|fuzz|tests: the program, the libraries and the examples that embed
# them, those of the demonstration, of the fault suite, of the benches or of the fuzz targets, or
# everything. One build at a time in a folder.
build() {
    local preset=$1 what=$2 folder with_tests=no targets=()
    folder=$(build_folder "$preset")
    case $what in
    run) targets=(moondog moondog_shared moondog_archive moondog_texts edge chat game) ;;
    demo | faults) targets=(moondog stock_client) ;;
    bench) targets=(moondog bench_client jetstream_client game) ;;
    fuzz) targets=(fuzz) ;;
    tests) with_tests=yes ;;
    esac
    mkdir -p "$folder"
    (
        flock 9
        if needs_configuring "$folder"; then
            configure "$preset" "$folder"
        fi
        if [[ ! -e $folder/libmoondog_internal.a ]]; then # takes a while: show that something happens
            ninja -C "$folder" "${targets[@]}" >&2
        else
            ninja -C "$folder" --quiet "${targets[@]}" |
                sed '/^ninja: no work to do\.$/d' >&2
        fi
    ) 9>"$folder/.lock" || die "the build failed; what is wrong is above"
}

readonly debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_sources SUITE: Debian's archives that this machine's apt knows, as the lines of a sources.list
# for that suite.
debian_sources() {
    local suite=$1 host uri release area part
    host=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    while read -r uri release area; do
        case $release in
        "$host" | "$host-updates" | "$host-security")
            part=${release#"$host"}
            printf 'deb [signed-by=%s] %s %s%s %s\n' "$debian_keyring" "$uri" "$suite" "$part" "$area"
            ;;
        esac
    done < <(apt-get indextargets --format "\$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
        'Created-By: Packages' 'Origin: Debian')
}

# debian_mirror SUITE: the archive itself, without its updates.
debian_mirror() {
    debian_sources "$1" | sed -n "s/^deb \[[^]]*\] \([^ ]*\) $1 main$/\1/p" | head -n 1
}
