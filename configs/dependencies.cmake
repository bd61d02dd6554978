# Finds what halftone links. README.md says what each library is for.
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(Boost REQUIRED CONFIG COMPONENTS program_options)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_library(PCRE2_LIBRARY pcre2-8 REQUIRED)
find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
# Some tokenizers need these; without them the others work, and those say what is missing.
find_package(ICU COMPONENTS uc)
if(ICU_FOUND)
  set(HALFTONE_ICU ICU::uc)
else()
  set(HALFTONE_ICU "")
endif()
find_library(SENTENCEPIECE_LIBRARY sentencepiece)
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h)
if(SENTENCEPIECE_LIBRARY AND SENTENCEPIECE_INCLUDE_DIR)
  set(HALFTONE_SENTENCEPIECE ${SENTENCEPIECE_LIBRARY})
  set(HALFTONE_SENTENCEPIECE_INCLUDE_DIR ${SENTENCEPIECE_INCLUDE_DIR})
else()
  set(HALFTONE_SENTENCEPIECE "")
  set(HALFTONE_SENTENCEPIECE_INCLUDE_DIR "")
endif()
message(STATUS "ICU: ${HALFTONE_ICU}, SentencePiece: ${HALFTONE_SENTENCEPIECE}")
if(TARGET yaml-cpp::yaml-cpp)
  set(HALFTONE_YAML yaml-cpp::yaml-cpp)
else()
  set(HALFTONE_YAML ${YAML_CPP_LIBRARIES})
endif()

# LibTorch: the one the user names, else the one of the python3 on the PATH, else the private .venv
# that launch/ makes. Only libtorch_cpu is linked; libtorch_cuda is loaded when a GPU is asked for,
# so that one program starts on machines with and without CUDA.
set(HALFTONE_TORCH_ROOT "" CACHE PATH "LibTorch's folder (with include/ and lib/)")
if(NOT HALFTONE_TORCH_ROOT)
  execute_process(
    COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE torch_of_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(GLOB torch_of_venv ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  foreach(candidate ${torch_of_python} ${torch_of_venv})
    if(EXISTS ${candidate}/include/ATen/ATen.h AND NOT HALFTONE_TORCH_ROOT)
      set(HALFTONE_TORCH_ROOT ${candidate} CACHE PATH "" FORCE)
    endif()
  endforeach()
endif()
if(NOT EXISTS "${HALFTONE_TORCH_ROOT}/include/ATen/ATen.h")
  message(FATAL_ERROR "LibTorch is missing: run launch/setup.sh, or pass -DHALFTONE_TORCH_ROOT=DIR")
endif()
message(STATUS "LibTorch: ${HALFTONE_TORCH_ROOT}")
foreach(library c10 torch_cpu)
  add_library(torch_${library}_imported SHARED IMPORTED)
  set_target_properties(torch_${library}_imported PROPERTIES
    IMPORTED_LOCATION ${HALFTONE_TORCH_ROOT}/lib/lib${library}.so)
endforeach()
add_library(halftone_torch INTERFACE)
target_include_directories(halftone_torch SYSTEM INTERFACE ${HALFTONE_TORCH_ROOT}/include)
# The wheel's libraries carry old-style RPATHs to their neighbours, which the linker does not follow.
# LibTorch uses the shared C++ runtime; where a compiler prefers a static one, the two would not share
# locales and thread-local state.
target_link_libraries(halftone_torch INTERFACE
  torch_torch_cpu_imported torch_c10_imported -Wl,--allow-shlib-undefined -l:libstdc++.so.6)
target_link_options(halftone_torch INTERFACE
  -Wl,-rpath,${HALFTONE_TORCH_ROOT}/lib -Wl,--unresolved-symbols=ignore-in-shared-libs)

# CUDA: the compiler and the shared runtime, which LibTorch uses too: two would each have a current
# device of their own. There may be no GPU to detect, so the list is ours.
if(HALFTONE_CUDA STREQUAL "AUTO")
  find_program(HALFTONE_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(HALFTONE_NVCC)
    set(HALFTONE_CUDA ON)
  else()
    set(HALFTONE_CUDA OFF)
  endif()
endif()
if(HALFTONE_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND HALFTONE_NVCC)
    set(CMAKE_CUDA_COMPILER ${HALFTONE_NVCC})
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  find_package(CUDAToolkit REQUIRED)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2
    HINTS ${CUDAToolkit_LIBRARY_DIR} ${HALFTONE_TORCH_ROOT}/../nvidia/nccl/lib)
endif()
message(STATUS "CUDA: ${HALFTONE_CUDA}, NCCL: ${NCCL_LIBRARY}")
