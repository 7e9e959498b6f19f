"""Forms of export that tests of several runtimes share."""

from mess_tf.exporting.options import ExportForm

FORMS = {
    "linked": ExportForm(),
    "everything": ExportForm(
        input="uint8",
        answer="both",
        resolution="image",
        threshold_input=True,
        exit_signatures=True,
    ),
    "classes": ExportForm(input="float32", answer="classes"),
}
