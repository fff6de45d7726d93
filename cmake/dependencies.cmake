# Libraries of others. Debian packages, named in tools/setup; nanobind comes from the venv.
# What the extension uses is header-only, so that it links libc and libstdc++ alone.
find_package(Threads REQUIRED)
find_package(tl-expected REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(spdlog REQUIRED)
find_path(MOBULA_FLATBUFFERS_INCLUDE flatbuffers/flatbuffers.h REQUIRED)
find_program(MOBULA_FLATC flatc REQUIRED)

# spdlog's own header-only target links the shared libfmt. This one does not.
add_library(mobula_spdlog INTERFACE)
target_include_directories(mobula_spdlog SYSTEM INTERFACE
  $<TARGET_PROPERTY:spdlog::spdlog_header_only,INTERFACE_INCLUDE_DIRECTORIES>)
target_compile_definitions(mobula_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(mobula_spdlog INTERFACE fmt::fmt-header-only Threads::Threads)

add_library(mobula_asio INTERFACE)
target_link_libraries(mobula_asio INTERFACE Boost::headers Threads::Threads)
target_compile_definitions(mobula_asio INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_VISIBILITY)
# Asio 1.74 uses std::exchange without including its header.
target_compile_options(mobula_asio INTERFACE -include utility)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Asio 1.74 does not see clang's coroutines by itself.
  target_compile_definitions(mobula_asio INTERFACE
    BOOST_ASIO_HAS_CO_AWAIT BOOST_ASIO_HAS_STD_COROUTINE)
endif()

if(MOBULA_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()

if(MOBULA_BUILD_PYTHON)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
    OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE nanobind_ROOT COMMAND_ERROR_IS_FATAL ANY)
  find_package(nanobind CONFIG REQUIRED)
endif()
