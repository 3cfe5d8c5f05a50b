/* The credentials of a connection: files, their modes, JWTs and when they expire, seeds. See
 * credentials.h. Main thread. */
#include "doctor/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "doctor/jwt.h"
#include "doctor/moment.h"
#include "link/nkey.h"

#define FILE_MAX (64u * 1024)

/* ---- files ---- */

/* Only regular files: a pipe would be waited for. */
static FILE *open_regular(const char *path, struct stat *about)
{
    if (stat(path, about) != 0)
        return NULL;
    if (!S_ISREG(about->st_mode)) {
        errno = S_ISDIR(about->st_mode) ? EISDIR : EINVAL;
        return NULL;
    }
    return fopen(path, "re");
}

bool credentials_check_file(findings *f, const char *what, const char *path, bool secret)
{
    struct stat about = {0};
    FILE *file = open_regular(path, &about);
    if (file == NULL) {
        finding(f, FINDING_PROBLEM, "file", "the %s %s cannot be read: %s", what, path,
                strerror(errno));
        finding_remedy(f, "put it there, readable for the user that moondog runs as; it is read "
                          "again at each dial, so nothing has to be restarted");
        return false;
    }
    fclose(file);
    if (!secret || (about.st_mode & S_IROTH) == 0)
        return true;
    finding(f, FINDING_WARNING, "file", "everybody on this machine may read the %s %s (mode %03o)",
            what, path, (unsigned)about.st_mode & 0777u);
    finding_remedy(f, "chmod o-rwx %s, and make new ones if others have been here", path);
    return true;
}

/* The text of a file in `text`; wiped by the caller. Whether it could be read. */
static bool read_file(const char *path, char *text, size_t size)
{
    struct stat about;
    FILE *file = open_regular(path, &about);
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = '\0';
    return true;
}

/* ---- a JWT ---- */

static void judge_expiry(findings *f, const jwt_claims *c)
{
    char when[MOMENT_TEXT_SIZE], span[MOMENT_TEXT_SIZE];
    int64_t now = (int64_t)time(NULL);
    int64_t from = c->not_before > c->issued ? c->not_before : c->issued;
    switch (moment_judge(from, c->expires, now)) {
    case MOMENT_EXPIRED:
        finding(f, FINDING_PROBLEM, "expiry", "the JWT of user %s expired %s ago, at %s", c->name,
                moment_span(now - c->expires, span), moment_text(c->expires, when));
        finding_remedy(f, "put a new credentials file in its place: moondog reads it at the next "
                          "dial; and see that whatever renews it does so before it expires");
        break;
    case MOMENT_SOON:
        finding(f, FINDING_WARNING, "expiry", "the JWT of user %s expires in %s, at %s", c->name,
                moment_span(c->expires - now, span), moment_text(c->expires, when));
        finding_remedy(f, "put a new credentials file in its place before that: the server "
                          "disconnects at that moment, and refuses it from then on");
        break;
    case MOMENT_NOT_YET:
        finding(f, FINDING_WARNING, "expiry", "the JWT of user %s was issued in the future, at %s",
                c->name, moment_text(from, when));
        finding_remedy(f, "the clock of this machine, or of the one that issued it, is probably "
                          "wrong: compare it with date -u");
        break;
    case MOMENT_GOOD:
        if (c->expires != 0)
            finding(f, FINDING_OK, "expiry", "the JWT of user %s is valid until %s", c->name,
                    moment_text(c->expires, when));
        else
            finding(f, FINDING_OK, "expiry", "the JWT of user %s does not expire", c->name);
        break;
    }
}

/* Whether the JWT says what one of a user says; *c. */
static bool judge_jwt(findings *f, const char *path, const char *text, jwt_claims *c)
{
    error e = {0};
    size_t length = 0;
    const char *token = jwt_find(text, &length);
    if (token == NULL)
        error_set(&e, "bad_jwt", ERROR_CLASS_AUTH, "no line of it begins like one (eyJ...)");
    if (token == NULL || jwt_parse(token, length, c, &e) != 0) {
        finding(f, FINDING_PROBLEM, "jwt", "there is no JWT that can be read in %s: %s", path,
                e.message);
        finding_remedy(f, "a credentials file has a JWT and a seed: nsc generate creds writes one");
        return false;
    }
    if (c->type[0] != '\0' && strcmp(c->type, "user") != 0) {
        finding(f, FINDING_PROBLEM, "jwt", "the JWT in %s is one of an %s, not of a user", path,
                c->type);
        finding_remedy(f, "use the credentials of a user: nsc generate creds writes them");
        return false;
    }
    if (c->name[0] == '\0')
        snprintf(c->name, sizeof c->name, "%.8s...", c->subject);
    return true;
}

static void judge_seed(findings *f, const char *path, const jwt_claims *c)
{
    char key[NKEY_PUBLIC_SIZE];
    error e = {0};
    if (nkey_public_from_file(path, key, &e) != 0) {
        finding(f, c->bearer ? FINDING_WARNING : FINDING_PROBLEM, "nkey",
                "the seed in %s is no good: %s", path, e.message);
        finding_remedy(f, "write the credentials file anew, with the seed of the JWT's user");
    } else if (strcmp(key, c->subject) != 0) {
        finding(f, FINDING_PROBLEM, "nkey",
                "the seed in %s is not that of its JWT: it belongs to %s, the JWT is for %s", path,
                key, c->subject);
        finding_remedy(f, "write the credentials file anew, with the JWT and the seed of one user");
    } else {
        finding(f, FINDING_OK, "nkey", "the seed belongs to the JWT: %s", key);
    }
}

static void check_creds(findings *f, const char *path)
{
    char text[FILE_MAX];
    jwt_claims claims;
    if (!credentials_check_file(f, "credentials file", path, true) ||
        !read_file(path, text, sizeof text))
        return;
    bool good = judge_jwt(f, path, text, &claims);
    explicit_bzero(text, sizeof text);
    if (!good)
        return;
    judge_expiry(f, &claims);
    judge_seed(f, path, &claims);
}

static void check_seed_file(findings *f, const char *path)
{
    char key[NKEY_PUBLIC_SIZE];
    error e = {0};
    if (!credentials_check_file(f, "NKEY seed file", path, true))
        return;
    if (nkey_public_from_file(path, key, &e) == 0) {
        finding(f, FINDING_OK, "nkey", "the seed in %s is good; its public key is %s", path, key);
        return;
    }
    finding(f, FINDING_PROBLEM, "nkey", "the seed in %s is no good: %s", path, e.message);
    finding_remedy(f, "write the seed of a user (SU...) into it: nk -gen user makes one");
}

/* ---- all of them ---- */

static bool has_user_info(const link_options *o)
{
    for (int i = 0; i < o->server_count; i++)
        if (strchr(o->servers[i], '@') != NULL)
            return true;
    return false;
}

void credentials_check(findings *f, const link_options *o, bool has_token_function)
{
    if (o->creds != NULL)
        check_creds(f, o->creds);
    if (o->nkey_seed_file != NULL)
        check_seed_file(f, o->nkey_seed_file);
    if (o->user != NULL && (o->password == NULL || o->password[0] == '\0'))
        finding(f, FINDING_OK, "credentials", "it logs in as user %s without a password", o->user);
    else if (o->user != NULL)
        finding(f, FINDING_OK, "credentials", "it logs in as user %s with a password", o->user);
    else if (o->token != NULL)
        finding(f, FINDING_OK, "credentials", "it logs in with a token");
    else if (has_user_info(o))
        finding(f, FINDING_OK, "credentials", "it logs in with what its URL has");
    else if (o->creds == NULL && o->nkey_seed_file == NULL && !has_token_function)
        finding(f, FINDING_OK, "credentials", "it has none");
}
