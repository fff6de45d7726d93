# Fuzz targets: src/<folder>/.../thing_fuzz.cc becomes the program `<folder>_thing_fuzz`, which links the
# library of its folder.
#
# With MOBULA_FUZZ (clang) they are libFuzzer programs; `make fuzz` builds and runs those. Else they
# are tests that replay tests/fuzz/corpus/<program>/.
file(GLOB_RECURSE fuzz_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/*_fuzz.cc")
add_custom_target(fuzz_targets)
foreach(source IN LISTS fuzz_sources)
  file(RELATIVE_PATH path "${PROJECT_SOURCE_DIR}/src" "${source}")
  string(REGEX MATCH "^[^/]+" folder "${path}")
  get_filename_component(stem "${source}" NAME_WE)
  set(target "${folder}_${stem}")
  add_executable(${target} "${source}")
  target_link_libraries(${target} PRIVATE mobula_compile mobula_${folder})
  add_dependencies(fuzz_targets ${target})
  if(MOBULA_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/fuzz/replay.cc")
    add_test(NAME fuzz/${target}
             COMMAND ${target} "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${target}")
    set_tests_properties(fuzz/${target} PROPERTIES LABELS "${folder};fuzz" TIMEOUT 60)
  endif()
endforeach()
