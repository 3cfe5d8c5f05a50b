# CPack runs this when the Debian packages are there. It gives the one with the library scripts that
# call ldconfig, and cannot be told not to; Debian wants a trigger, which the package has, and no
# script.
foreach(package ${CPACK_PACKAGE_FILES})
  if(package MATCHES "/${CPACK_DEBIAN_LIBRARY_PACKAGE_NAME}_")
    set(folder "${CPACK_TEMPORARY_DIRECTORY}/unpacked")
    execute_process(COMMAND dpkg-deb --raw-extract "${package}" "${folder}"
      COMMAND_ERROR_IS_FATAL ANY)
    file(REMOVE "${folder}/DEBIAN/postinst" "${folder}/DEBIAN/postrm")
    execute_process(COMMAND dpkg-deb --root-owner-group --build "${folder}" "${package}"
      OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  endif()
endforeach()
