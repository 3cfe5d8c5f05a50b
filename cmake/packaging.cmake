# What is installed, and the Debian packages made of it (scripts/package). Three components: the
# program, the shared library, and what it takes to build with the library.

# Under any prefix, Debian's linker, pkg-config and CMake look into the folder of the architecture,
# and a package has to use it. GNUInstallDirs would choose it for /usr only.
if(EXISTS /etc/debian_version AND CMAKE_LIBRARY_ARCHITECTURE)
  set(CMAKE_INSTALL_LIBDIR lib/${CMAKE_LIBRARY_ARCHITECTURE} CACHE PATH "libraries")
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# ---- the program ----

set(MOONDOG_EXAMPLES ${CMAKE_INSTALL_DATADIR}/doc/moondog/examples)
set(MOONDOG_META ${CMAKE_INSTALL_DATADIR}/moondog/lua/meta)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME program)
install(TARGETS moondog)
install(FILES ${CMAKE_BINARY_DIR}/moondog.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/moondog.bash RENAME moondog
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${CMAKE_BINARY_DIR}/_moondog
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${CMAKE_BINARY_DIR}/moondog.fish
  DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/moondog)
install(FILES lua/reference.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/moondog)
install(DIRECTORY lua/meta/ DESTINATION ${MOONDOG_META})
install(DIRECTORY examples/ DESTINATION ${MOONDOG_EXAMPLES})
# Texts that say where others are: that is known when they are installed.
configure_file(cmake/install_texts.cmake.in install_texts.cmake @ONLY)
install(SCRIPT ${CMAKE_BINARY_DIR}/install_texts.cmake)

# ---- the library ----

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME library)
install(TARGETS moondog_shared LIBRARY NAMELINK_COMPONENT development)

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME development)
install(FILES src/moondog.h TYPE INCLUDE)
install(FILES src/reference.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libmoondog-dev)
install(FILES ${MOONDOG_ARCHIVE} DESTINATION ${CMAKE_INSTALL_LIBDIR})

set(MOONDOG_PKGCONFIG ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
list(JOIN MOONDOG_NEEDS ", " MOONDOG_REQUIRES)
string(REPLACE ">=" " >= " MOONDOG_REQUIRES "${MOONDOG_REQUIRES}")
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(MOONDOG_PREFIX ${CMAKE_INSTALL_PREFIX})
else() # found from where the file is, so that it may be moved with all the rest
  file(RELATIVE_PATH MOONDOG_PREFIX /prefix/${MOONDOG_PKGCONFIG} /prefix)
  string(REGEX REPLACE "(.*[^/])/*$" "\${pcfiledir}/\\1" MOONDOG_PREFIX ${MOONDOG_PREFIX})
endif()
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY "\${prefix}"
  OUTPUT_VARIABLE MOONDOG_PC_LIBDIR)
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_INCLUDEDIR BASE_DIRECTORY "\${prefix}"
  OUTPUT_VARIABLE MOONDOG_PC_INCLUDEDIR)
foreach(file moondog.pc moondog-static.pc)
  configure_file(cmake/${file}.in ${file} @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/${file} DESTINATION ${MOONDOG_PKGCONFIG})
endforeach()

set(MOONDOG_CONFIG ${CMAKE_INSTALL_LIBDIR}/cmake/moondog)
configure_package_config_file(cmake/moondogConfig.cmake.in moondogConfig.cmake
  INSTALL_DESTINATION ${MOONDOG_CONFIG} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(moondogConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_BINARY_DIR}/moondogConfig.cmake
  ${CMAKE_BINARY_DIR}/moondogConfigVersion.cmake DESTINATION ${MOONDOG_CONFIG})

# ---- the Debian packages ----

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME moondog)
set(CPACK_PACKAGE_CONTACT "moondog <moondog@localhost>")
foreach(key name email)
  execute_process(COMMAND git config user.${key} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    OUTPUT_VARIABLE git_${key} OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endforeach()
if(git_name AND git_email)
  set(CPACK_PACKAGE_CONTACT "${git_name} <${git_email}>")
endif()
set(CPACK_SET_DESTDIR ON) # so that what is installed hears of /usr, and not of where it is packed
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL program library development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/cmake/debian_files.cmake)
set(CPACK_POST_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/cmake/debian_triggers.cmake)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

set(MOONDOG_IS "moondog keeps a program's NATS connections alive, whatever happens
to the network, the servers and the credentials, and lets its operators
write in Lua what happens on the way. Scripts are reloaded while it runs.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME moondog)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_DEPENDS "lua-argparse, lua-cjson")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS nats-server)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "resilience runtime for NATS, scripted in Lua
${MOONDOG_IS}")

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libmoondog${MOONDOG_SOVERSION})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SUGGESTS lua-cjson)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/triggers)
file(WRITE ${CMAKE_BINARY_DIR}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "resilience runtime for NATS, scripted in Lua (library)
${MOONDOG_IS}
.
This is the library, for programs that embed it.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libmoondog-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "${CPACK_DEBIAN_LIBRARY_PACKAGE_NAME} (= ${PROJECT_VERSION}), libuv1-dev, libluajit-5.1-dev, \
libnats-dev (>= 3.4.1), libssl-dev, libjansson-dev, libmicrohttpd-dev, libsqlite3-dev")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "resilience runtime for NATS (development files)
${MOONDOG_IS}
.
This is what it takes to build programs with the library: the header,
the static library, and what pkg-config and CMake have to know.")
include(CPack)
