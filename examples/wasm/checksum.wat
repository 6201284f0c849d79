;; A task as a WebAssembly module: it puts out how many bytes its input has, and their CRC-32.
;;
;;   {"name":"world"}   ->   {"bytes":16,"crc32":"f5a3b3c8"}
;;
;; Extism calls `execute_task`; its input is the task's parameters as JSON, what it sets as its output is the task's standard
;; output, and what it returns is the exit code. Parameters without any member are an error, to show how one is reported.
;; In practice a module is compiled from Rust, Go, C, Zig, AssemblyScript … with a plug-in development kit of Extism, where this is
;; one function of a few lines. Here it is written by hand so that it is built without a compiler:
;;
;;   pip install wasmtime
;;   python -c "import sys, wasmtime; sys.stdout.buffer.write(wasmtime.wat2wasm(sys.stdin.read()))" < checksum.wat > checksum.wasm
(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_load_u8" (func $input_byte (param i64) (result i32)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u8" (func $store (param i64 i32)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (import "extism:host/env" "error_set" (func $error (param i64)))

  ;; 0-: what is put out, with room for the figures. 64-: the error. 128-: sixteen digits. 160-: twenty decimal digits.
  (memory (export "memory") 1)
  (data (i32.const 64) "no parameters: give the task at least one, such as name=world")
  (data (i32.const 128) "0123456789abcdef")
  (data (i32.const 256) "{\"bytes\":")
  (data (i32.const 288) ",\"crc32\":\"")
  (data (i32.const 320) "\"}\n")

  (global $end (mut i32) (i32.const 512))  ;; what is put out is gathered from 512 on

  (func $append (param $from i32) (param $length i32)
    (memory.copy (global.get $end) (local.get $from) (local.get $length))
    (global.set $end (i32.add (global.get $end) (local.get $length))))

  (func $append_decimal (param $number i64)
    (local $at i32)
    (local.set $at (i32.const 180))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
      (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $number) (i64.const 0))))
    (call $append (local.get $at) (i32.sub (i32.const 180) (local.get $at))))

  (func $append_hexadecimal (param $number i32)
    (local $shift i32)
    (local.set $shift (i32.const 28))
    (loop $digit
      (call $append
        (i32.add (i32.const 128) (i32.and (i32.shr_u (local.get $number) (local.get $shift)) (i32.const 15)))
        (i32.const 1))
      (local.set $shift (i32.sub (local.get $shift) (i32.const 4)))
      (br_if $digit (i32.ge_s (local.get $shift) (i32.const 0)))))

  (func $crc32_of_input (result i32)
    (local $crc i32) (local $at i64) (local $bit i32)
    (local.set $crc (i32.const -1))
    (block $done
      (loop $byte
        (br_if $done (i64.ge_u (local.get $at) (call $input_length)))
        (local.set $crc (i32.xor (local.get $crc) (call $input_byte (local.get $at))))
        (local.set $bit (i32.const 8))
        (loop $next
          (local.set $crc
            (i32.xor
              (i32.shr_u (local.get $crc) (i32.const 1))
              (i32.and (i32.const 0xEDB88320) (i32.sub (i32.const 0) (i32.and (local.get $crc) (i32.const 1))))))
          (local.set $bit (i32.sub (local.get $bit) (i32.const 1)))
          (br_if $next (local.get $bit)))
        (local.set $at (i64.add (local.get $at) (i64.const 1)))
        (br $byte)))
    (i32.xor (local.get $crc) (i32.const -1)))

  ;; Memory of the module and memory that Extism shares with it are two: text goes over byte by byte.
  (func $shared (param $from i32) (param $length i32) (result i64)
    (local $to i64) (local $at i32)
    (local.set $to (call $alloc (i64.extend_i32_u (local.get $length))))
    (loop $byte
      (call $store
        (i64.add (local.get $to) (i64.extend_i32_u (local.get $at)))
        (i32.load8_u (i32.add (local.get $from) (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $byte (i32.lt_u (local.get $at) (local.get $length))))
    (local.get $to))

  (func (export "execute_task") (result i32)
    (if (i64.le_u (call $input_length) (i64.const 2))  ;; {}
      (then
        (call $error (call $shared (i32.const 64) (i32.const 61)))
        (return (i32.const 1))))
    (call $append (i32.const 256) (i32.const 9))
    (call $append_decimal (call $input_length))
    (call $append (i32.const 288) (i32.const 10))
    (call $append_hexadecimal (call $crc32_of_input))
    (call $append (i32.const 320) (i32.const 3))
    (call $output
      (call $shared (i32.const 512) (i32.sub (global.get $end) (i32.const 512)))
      (i64.extend_i32_u (i32.sub (global.get $end) (i32.const 512))))
    (i32.const 0)))
