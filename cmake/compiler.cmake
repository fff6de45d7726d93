# The compiler's flags, the same for every target of ours.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # Every library may end up in the extension.
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

# Line tables only (-g1) keep the objects small and still give symbolized profiles and traces.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")

find_program(MOBULA_CCACHE ccache)
if(MOBULA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MOBULA_CCACHE}")
endif()

# mobula_compile: what every target of ours is compiled with and nothing of others is.
add_library(mobula_compile INTERFACE)
target_compile_options(mobula_compile INTERFACE
  -fno-omit-frame-pointer -fdiagnostics-color=auto
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 sees these inside std::variant and std::string where they are not.
  target_compile_options(mobula_compile INTERFACE
    -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
endif()
# Paths in messages and debug information are relative to the repository.
target_compile_options(mobula_compile INTERFACE
  "-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=")

if(MOBULA_SANITIZE)
  add_compile_options(-fsanitize=${MOBULA_SANITIZE} -fno-sanitize-recover=all -O1 -g)
  add_link_options(-fsanitize=${MOBULA_SANITIZE})
  add_compile_definitions(MOBULA_SANITIZED=1)
  if(MOBULA_SANITIZE MATCHES "thread")
    add_compile_options(-Wno-tsan)  # Fences are not modelled; those in our code sit beside atomics.
  endif()
endif()

if(MOBULA_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
