std = "luajit"
max_line_length = 120

-- It replaces what a script must not have.
files["lua/moondog/sandbox.lua"] = {
  globals = {
    "load", "loadstring", "loadfile", "dofile", "print", "newproxy", "debug", "coroutine", "os",
    "package", "string", "xpcall", "jit", "io",
  },
}
-- Annotations for editors: signatures without bodies.
files["lua/meta"] = { ignore = { "111", "112", "113", "131", "211", "212", "241" } }
-- The functions of the program that has the script inside.
files["examples/embed"] = { read_globals = { "host" } }
files["tests/**/*_spec.lua"] = { std = "+busted" }
