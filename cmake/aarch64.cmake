# petri for aarch64, built on another machine with Debian's cross compiler. PETRI_SYSROOT, of the cache or of the environment, is a
# directory with Debian's arm64 libraries and headers; `./dev cross` makes one, and says this to cmake.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)

# Kept, since cmake reads this file again whenever it configures, for a directory of its own too.
set(PETRI_SYSROOT "$ENV{PETRI_SYSROOT}" CACHE PATH "Debian's arm64 libraries and headers")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PETRI_SYSROOT)
if(NOT PETRI_SYSROOT OR NOT IS_DIRECTORY "${PETRI_SYSROOT}/usr/lib/aarch64-linux-gnu")
  message(FATAL_ERROR "PETRI_SYSROOT names no directory with arm64 libraries: ./dev cross makes one")
endif()
set(CMAKE_SYSROOT "${PETRI_SYSROOT}")
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${PETRI_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${PETRI_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${PETRI_SYSROOT}/usr/share/pkgconfig")

# petri writes its own manual pages, as part of the build.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L "${PETRI_SYSROOT}")
