# Compiler and linker flags that every target gets: warnings, hardening, sanitizers.
# petri_target(T) is called by each folder's CMakeLists.txt for each of its targets.

set(PETRI_WARNINGS
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
    -Wformat=2 -Wundef -Wpointer-arith -Wcast-align -Wwrite-strings -Wvla -Wno-unused-parameter
    -Wno-missing-field-initializers)

set(PETRI_HARDENING -fstack-protector-strong -fstack-clash-protection -fno-strict-aliasing -fno-common)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
  list(APPEND PETRI_HARDENING -fcf-protection)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
  list(APPEND PETRI_HARDENING -mbranch-protection=standard)
endif()

function(petri_target target)
  target_compile_options(${target} PRIVATE ${PETRI_WARNINGS} ${PETRI_HARDENING})
  if(PETRI_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  # _FORTIFY_SOURCE needs optimisation, and the sanitizers bring checks of their own.
  if(NOT PETRI_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    target_compile_options(${target} PRIVATE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
  endif()
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE PETRI_VERSION="${PROJECT_VERSION}")
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_options(${target} PRIVATE -Wl,-z,relro,-z,now,-z,noexecstack)
endfunction()

# petri_sanitize(T): what petri-nursery must not get, being static.
function(petri_sanitize target)
  if(PETRI_SANITIZE)
    # What UndefinedBehaviorSanitizer finds would otherwise only be printed, and the test pass.
    target_compile_options(${target} PRIVATE -fsanitize=${PETRI_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${PETRI_SANITIZE})
  endif()
endfunction()
