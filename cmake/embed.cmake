# Writes OUT: every file of FILES (relative to ROOT) as bytes, in one table that is found by
# module name ("moondog/cli.lua" is the module "moondog.cli").
set(text "/* Generated from lua/ by cmake/embed.cmake. */\n#include \"script/embedded.h\"\n\n")
set(rows "")
set(index 0)
foreach(file ${FILES})
  file(READ ${ROOT}/${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND text "static const unsigned char file_${index}[] = {${bytes}0};\n")
  string(REGEX REPLACE "\\.lua$" "" module ${file})
  string(REPLACE "/" "." module ${module})
  string(APPEND rows
    "    {\"${module}\", \"@lua/${file}\", (const char *)file_${index}, sizeof file_${index} - 1},\n")
  math(EXPR index "${index} + 1")
endforeach()
string(APPEND text "\nconst embedded_module embedded_modules[] = {\n${rows}    {0, 0, 0, 0},\n};\n")
file(WRITE ${OUT} "${text}")
