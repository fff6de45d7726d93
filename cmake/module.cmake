# mobula_module(NAME base LINKS ... PRIVATE_LINKS ...)
#
# Makes library mobula_<NAME> of the sources in the calling folder, and, where there are *_test.cc
# files, one test executable mobula_<NAME>_test. A folder that has no sources is an interface library.
#
#   thing.cc                the library
#   thing_test.cc           the test executable; the tests of a folder run in one program each
#   thing_test_support.cc   shared by the tests of the folder, in the test executable only
#   thing_bench.cc, thing_fuzz.cc, main.cc   neither; built where they are used
function(mobula_sources out_library out_tests)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test(_support)?\\.cc$")
  list(FILTER sources EXCLUDE REGEX "(_test|_test_support|_bench|_fuzz|/main)\\.cc$")
  set(${out_library} ${sources} PARENT_SCOPE)
  set(${out_tests} ${tests} PARENT_SCOPE)
endfunction()

function(mobula_module)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "LINKS;PRIVATE_LINKS")
  set(target mobula_${arg_NAME})
  mobula_sources(library tests)
  if(library)
    add_library(${target} STATIC ${library})
    target_include_directories(${target} PUBLIC "${PROJECT_SOURCE_DIR}/src")
    target_link_libraries(${target} PUBLIC ${arg_LINKS} PRIVATE mobula_compile ${arg_PRIVATE_LINKS})
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE "${PROJECT_SOURCE_DIR}/src")
    target_link_libraries(${target} INTERFACE ${arg_LINKS} ${arg_PRIVATE_LINKS})
  endif()
  if(MOBULA_BUILD_TESTS AND tests)
    mobula_test_executable(${target}_test LABEL ${arg_NAME} SOURCES ${tests}
                           LINKS ${target} ${arg_PRIVATE_LINKS})
  endif()
endfunction()

function(mobula_test_executable target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL" "SOURCES;LINKS")
  include(GoogleTest)
  add_executable(${target} ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE mobula_compile ${arg_LINKS} GTest::gtest_main)
  target_compile_options(${target} PRIVATE -Wno-conversion)  # EXPECT_EQ(x, 3) and the like.
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST TEST_PREFIX "${arg_LABEL}/"
                       PROPERTIES LABELS "${arg_LABEL}" TIMEOUT 180)
endfunction()

# Compiles the schemas of a folder under src/ to <build>/generated/<folder>/<name>_generated.h and
# makes them visible to users of `target` as "<folder>/<name>_generated.h".
function(mobula_schemas target)
  file(GLOB schemas CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.fbs")
  if(NOT schemas)
    return()
  endif()
  file(RELATIVE_PATH folder "${PROJECT_SOURCE_DIR}/src" "${CMAKE_CURRENT_SOURCE_DIR}")
  set(root "${PROJECT_BINARY_DIR}/generated")
  set(headers)
  foreach(schema IN LISTS schemas)
    get_filename_component(name "${schema}" NAME_WE)
    set(header "${root}/${folder}/${name}_generated.h")
    add_custom_command(
      OUTPUT "${header}"
      COMMAND "${MOBULA_FLATC}" --cpp --cpp-std c++17 --scoped-enums --no-warnings
              -I "${PROJECT_SOURCE_DIR}/src" -o "${root}/${folder}" "${schema}"
      DEPENDS ${schemas} COMMENT "flatc ${folder}/${name}.fbs" VERBATIM)
    list(APPEND headers "${header}")
  endforeach()
  add_custom_target(${target}_schemas DEPENDS ${headers})
  add_dependencies(${target} ${target}_schemas)
  get_target_property(type ${target} TYPE)
  set(scope PUBLIC)
  if(type STREQUAL "INTERFACE_LIBRARY")
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} SYSTEM ${scope}
    "${root}" "${MOBULA_FLATBUFFERS_INCLUDE}")
endfunction()
