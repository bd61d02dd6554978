#include "app/commands.h"

namespace halftone {

const std::vector<Command>& commands() {
  static const std::vector<Command> list{
      quantize_command(),   autoquantize_command(), plan_command(),    export_command(),
      evaluate_command(),   serve_command(),        verify_command(),  compare_command(),
      tokenize_command(),   inspect_command(),      formats_command(), models_command(),
      synthesize_command(),
  };
  return list;
}

}  // namespace halftone
