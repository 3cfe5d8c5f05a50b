# CPack runs this when the files of the Debian packages are in place, and before it packs them: what
# Debian wants otherwise than `cmake --install` leaves it.
set(root "${CPACK_TEMPORARY_DIRECTORY}")
set(license "${root}/program/usr/share/doc/moondog/LICENSE")
string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)

foreach(component program library development)
  string(TOUPPER ${component} COMPONENT)
  set(doc "${root}/${component}/usr/share/doc/${CPACK_DEBIAN_${COMPONENT}_PACKAGE_NAME}")
  configure_file("${license}" "${doc}/copyright" COPYONLY)
  file(WRITE "${doc}/changelog" "moondog (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium

  * What has changed, the history of the source says.

 -- ${CPACK_PACKAGE_CONTACT}  ${now}
")
endforeach()
file(REMOVE "${license}")

file(GLOB_RECURSE compressed "${root}/*/changelog" "${root}/program/usr/share/man/*")
file(GLOB_RECURSE archives "${root}/development/*.a")
execute_process(COMMAND gzip -9n ${compressed} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND strip --strip-debug --enable-deterministic-archives ${archives}
  COMMAND_ERROR_IS_FATAL ANY)
# Folders, and files that no rule of installation made, have the rights that this user's umask gives.
execute_process(COMMAND chmod -R u+rwX,go+rX,go-w "${root}" COMMAND_ERROR_IS_FATAL ANY)
