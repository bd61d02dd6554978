# One static library per folder: halftone_library(NAME SOURCES ... LINKS ... [TORCH]).
# LINKS names the folders to the left in the order of layers, so that a wrong include does not link.
set(HALFTONE_WARNINGS -Wall -Wextra -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overflows in std::string's own code (its bugs 105329 and 105651).
  list(APPEND HALFTONE_WARNINGS -Wno-restrict -Wno-array-bounds -Wno-stringop-overflow)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 13 takes a member reached through a function that also had a temporary argument for dangling.
  list(APPEND HALFTONE_WARNINGS -Wno-dangling-reference)
endif()

if(HALFTONE_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>)
  add_link_options(-fsanitize=address,undefined)
endif()
# Numerics are specified operation by operation: no contraction, no fast-math.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

# One precompiled header for everything that includes LibTorch: it takes longer than any source file.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/precompiled.cpp CONTENT "")
add_library(halftone_precompiled OBJECT ${PROJECT_BINARY_DIR}/precompiled.cpp)
target_link_libraries(halftone_precompiled PRIVATE halftone_torch nlohmann_json::nlohmann_json)
target_precompile_headers(halftone_precompiled PRIVATE <ATen/ATen.h> <nlohmann/json.hpp>)
function(halftone_precompiled target)
  target_precompile_headers(${target} REUSE_FROM halftone_precompiled)
endfunction()

function(halftone_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINKS" ${ARGN})
  add_library(halftone_${name} STATIC ${ARG_SOURCES})
  target_include_directories(halftone_${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(halftone_${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${HALFTONE_WARNINGS}>)
  target_link_libraries(halftone_${name} PUBLIC ${ARG_LINKS})
  if(ARG_TORCH)
    target_link_libraries(halftone_${name} PUBLIC halftone_torch)
    halftone_precompiled(halftone_${name})
  endif()
endfunction()
