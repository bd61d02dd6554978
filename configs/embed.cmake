# Writes OUTPUT, an assembler file that embeds FILES under the names NAMES, and a table of them:
# cmake -DOUTPUT=... -DFILES="a;b" -DNAMES="x;y" -P embed.cmake
set(text ".section .rodata\n")
set(table "")
list(LENGTH FILES count)
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  list(GET FILES ${i} file)
  list(GET NAMES ${i} name)
  string(APPEND text
    "name_${i}: .asciz \"${name}\"\n"
    "data_${i}: .incbin \"${file}\"\n"
    "end_${i}: .byte 0\n")
  string(APPEND table ".quad name_${i}, data_${i}, end_${i}\n")
endforeach()
file(WRITE ${OUTPUT}
  "${text}"
  ".section .data.rel.ro,\"aw\"\n.balign 8\n"
  ".globl halftone_embedded_files\nhalftone_embedded_files:\n${table}"
  ".globl halftone_embedded_count\nhalftone_embedded_count: .quad ${count}\n"
  ".section .note.GNU-stack,\"\",@progbits\n")
