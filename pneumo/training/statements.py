"""What every card says of the films, the intended use and the limits, by the populations that it knows."""

from collections.abc import Iterable

CHILD, ADULT = "child", "adult"
AGES = {CHILD: (1, 5), ADULT: (18, None)}  # years, first and last, of the patients that a population's figures are of
SOURCE = {
    "title": "Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification",
    "authors": "Kermany, Zhang, Goldbaum",
    "doi": "10.17632/rscbjbr9sj",
    "licence": "CC BY 4.0",
    "films": "frontal chest films of children aged 1 to 5, Guangzhou Women and Children's Medical Center",
}
ADULTS = {
    "title": "ChestX-ray8, with the reads of the RSNA Pneumonia Detection Challenge",
    "authors": "Wang et al. 2017; Shih et al. 2019; Majkowska et al. 2019",
    "doi": "10.1109/CVPR.2017.369",
    "licence": "free to use with attribution (NIH Clinical Center)",
    "films": "frontal chest films of adults, NIH Clinical Center; PNEUMONIA is an opacity suspicious for pneumonia",
    "labels": "PNEUMONIA is what radiologists of the RSNA read as a lung opacity, NORMAL what they read as normal; "
    "OTHER has findings but no opacity and counts as not pneumonia (Shih et al. 2019, doi 10.1148/ryai.2019180041). Of "
    "some films three radiologists agreed on an airspace opacity (Majkowska et al. 2019, doi "
    "10.1148/radiol.2019191293). The other labels a program took from reports (Wang et al. 2017); these are poor, so "
    "figures are told for both apart. RSNA's radiologists drew boxes around the opacities.",
}
INTENDED_USE = (
    "An aid for a clinician who reads frontal chest films of children aged 1 to 5. It replaces no reader and gives no "
    "advice to patients."
)
INTENDED_FOR_BOTH = INTENDED_USE.replace("children aged 1 to 5", "children aged 1 to 5, or of adults")
# What `dataset.patient_key` does
PATIENTS = (
    "Who is one child is taken from the file names, whose numbers are held to begin anew for bacteria, for viruses and "
    "for NORMAL2; aetiology is the file name's, too. Age and sex of a child are not told."
)
ADULT_PATIENTS = "Who is one patient is told by labels.csv, and so are age, view and who read the film."
LIMITS = [
    "Not a medical device: approved or certified nowhere and not tried in clinical use. It is for research, and for "
    "evaluation on one's own films.",
    "Trained on children aged 1 to 5 of one hospital; on adults or films of other hospitals its answers are unproven.",
    "Films of low quality were taken out of the data set before its films were labelled: nothing is known of such.",
    "In this data set the two classes were acquired differently (sharpness, border); part of any score measured on it "
    "may come from that, not from the lungs.",
    "The probability, and what follows from it, holds where as many films show a pneumonia as here. Where fewer do it "
    "is too high, and more of the films that are called PNEUMONIA are normal.",
    "It knows two labels. Other diseases, devices, and lateral films are not recognised.",
    "The heat map shows regions that raised the probability, not where a pneumonia is.",
]
LIMITS_OF_BOTH = [
    LIMITS[0],
    "Trained on children aged 1 to 5 of one hospital and on adults of another; on patients of other ages and on films "
    "of other hospitals its answers are unproven. Where nothing tells the age, the pixels tell the two hospitals' "
    "films apart, and with them the populations.",
    "In adults PNEUMONIA means an opacity suspicious for pneumonia, as radiologists read it on the film; a part of the "
    "adults' labels was taken from reports by a program.",
    *LIMITS[2:],
]


def state(populations: Iterable[str]) -> dict:
    """State intended use and limits of a model that knows these populations."""
    both = ADULT in populations
    return {
        "intended_use": INTENDED_FOR_BOTH if both else INTENDED_USE,
        "limits": LIMITS_OF_BOTH if both else LIMITS,
    }
